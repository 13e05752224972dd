"""Imports the features of one slide that another tool made."""

from slidestudy.features.study_imports import import_slide
from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    tissues = [read_json(path) for path in snakemake.input.tissue]
    import_slide(
        read_json(snakemake.input.entry),
        read_json(snakemake.input.inspection),
        tissues[0] if tissues else None,
        read_json(snakemake.input.source),
        load_yaml(snakemake.input.settings),
        load_yaml(snakemake.input.stated),
        snakemake.output.store,
    )
