"""Compares one model with every other model of the same target."""

from slidestudy.job import rule_script
from slidestudy.tables import load_table, write_table
from slidestudy.validation.model_comparison import compare_models, predictions_by_model
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, roles = load_yaml(snakemake.input.settings), snakemake.params.roles
    tables = [load_table(path) for path in [*snakemake.input.predictions, *snakemake.input.rivals]]
    predictions = predictions_by_model(tables, [settings["model"], *settings["rivals"]], list(roles))
    write_table(snakemake.output.comparison, compare_models(predictions, roles, settings))
