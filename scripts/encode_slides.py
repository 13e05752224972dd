"""Encodes the slides of one cohort with one slide encoder."""

from slidestudy.features.slide_encoders.encoding import encode_cohort
from slidestudy.job import rule_script
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, cohort = load_yaml(snakemake.input.settings), snakemake.wildcards.cohort
    encode_cohort(settings, snakemake.input.stores, cohort, snakemake.output.store, snakemake.threads)
