"""Validates one model on every cohort."""

from slidestudy.job import rule_script
from slidestudy.tables import load_table, write_table
from slidestudy.validation.figures import roc, scatter
from slidestudy.validation.study import validate
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, roles = load_yaml(snakemake.input.settings), snakemake.params.roles
    predictions = {cohort: load_table(path) for cohort, path in zip(roles, snakemake.input.predictions, strict=True)}
    truth = load_table(snakemake.input.truth[0]) if snakemake.input.truth else None
    metrics, against_truth = validate(predictions, roles, settings, truth)
    scatter(predictions, metrics, settings, snakemake.output.scatter)
    roc(predictions, metrics, settings, snakemake.output.roc)
    write_table(snakemake.output.truth, against_truth)
    write_table(snakemake.output.metrics, metrics)
