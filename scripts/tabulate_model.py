"""Writes the tables of a paper on one model."""

from slidestudy.files import atomic_path
from slidestudy.job import rule_script
from slidestudy.tables import load_table
from slidestudy.validation.paper_tables import write_paper_tables
from slidestudy.yaml_files import load_yaml

NAMES = ("metrics", "cox", "comparison", "subgroups", "shift")

with rule_script(snakemake.log[0]):
    paths = {name: snakemake.input.get(name) for name in NAMES}
    found = {name: load_table(path) for name, path in paths.items() if path}
    with atomic_path(snakemake.output.tables) as partial:
        partial.mkdir()
        write_paper_tables(partial, found, load_yaml(snakemake.input.settings))
