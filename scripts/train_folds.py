"""Trains all folds of one model in one job, so that features are read once."""

from slidestudy.job import rule_script
from slidestudy.models.fold_files import train_all_folds
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings = load_yaml(snakemake.input.settings)
    splits, labels = load_table(snakemake.input.splits), load_table(snakemake.input.labels)
    outputs, searches = dict(enumerate(snakemake.output)), dict(enumerate(snakemake.input.search))
    train_all_folds(settings, splits, labels, snakemake.input.stores, outputs, searches)
