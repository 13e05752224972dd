"""Validates one model on every cohort."""

from slidestudy.job import rule_script
from slidestudy.tables import load_table
from slidestudy.validation.stage import run_validation
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, roles = load_yaml(snakemake.input.settings), snakemake.params.roles
    predictions = {cohort: load_table(path) for cohort, path in zip(roles, snakemake.input.predictions, strict=True)}
    truth = load_table(snakemake.input.truth[0]) if snakemake.input.truth else None
    run_validation(predictions, roles, settings, truth, dict(snakemake.output.items()))
