"""Relates the scores of one model's endpoints, its own among them, to the time until the event."""

from slidestudy.job import rule_script
from slidestudy.tables import load_table
from slidestudy.validation.further_stages import run_survival
from slidestudy.validation.survival_rows import load_endpoint
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, roles = load_yaml(snakemake.input.settings), snakemake.params.roles
    predictions = {cohort: load_table(path) for cohort, path in zip(roles, snakemake.input.predictions, strict=True)}
    names = settings["endpoints"]
    tables = {name: load_endpoint(path) for name, path in zip(names, snakemake.input.tables, strict=True)}
    run_survival(predictions, roles, tables, settings, dict(snakemake.output.items()))
