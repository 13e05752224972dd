"""Deals the development slides of one model into folds."""

from slidestudy.job import rule_script
from slidestudy.models.cohort import split_development
from slidestudy.settings import load_yaml
from slidestudy.tables import load_table, write_table

with rule_script(snakemake.log[0]):
    labels, settings = load_table(snakemake.input.labels), load_yaml(snakemake.input.settings)
    write_table(snakemake.output.splits, split_development(labels, snakemake.input.stores, settings))
