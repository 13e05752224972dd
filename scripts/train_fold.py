"""Trains one fold of one model, with one seed or with several."""

from slidestudy.job import rule_script
from slidestudy.models.fold_files import train_to_files
from slidestudy.models.resuming import forget
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, fold = load_yaml(snakemake.input.settings), int(snakemake.wildcards.fold)
    splits, labels = load_table(snakemake.input.splits), load_table(snakemake.input.labels)
    search = snakemake.input.search[0] if snakemake.input.search else None
    train_to_files(settings, splits, labels, snakemake.input.stores, fold, snakemake.output.fold, search=search)
    forget(snakemake.output.fold)
