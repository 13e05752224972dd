"""Lays a file of published weights down as a fold of a model."""

from slidestudy.job import rule_script
from slidestudy.models.published import adopt_weights
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, fold = load_yaml(snakemake.input.settings), int(snakemake.wildcards.fold)
    adopt_weights(settings, snakemake.input.weights, list(snakemake.input.stores), snakemake.output.fold, fold)
