"""Deals the development slides of one model into training, validation and test parts, fold by fold."""

from slidestudy.job import rule_script
from slidestudy.models.cohort import split_development
from slidestudy.tables import load_table, write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    labels, settings = load_table(snakemake.input.labels), load_yaml(snakemake.input.settings)
    pairs = load_table(snakemake.input.lookalikes)
    write_table(snakemake.output.splits, split_development(labels, snakemake.input.stores, settings, pairs))
