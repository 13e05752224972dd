"""Measures one model in every group of slides."""

from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.tables import load_table
from slidestudy.validation.further_stages import run_subgroups
from slidestudy.validation.subgroups import complete_groups
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, roles = load_yaml(snakemake.input.settings), snakemake.params.roles
    predictions = {cohort: load_table(path) for cohort, path in zip(roles, snakemake.input.predictions, strict=True)}
    records = [read_json(path) for path in snakemake.input.records]
    groups = complete_groups(load_table(snakemake.input.groups), records, settings)
    run_subgroups(predictions, roles, groups, settings, dict(snakemake.output.items()))
