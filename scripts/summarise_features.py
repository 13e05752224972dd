"""Summarises the features of whole cohorts of one encoder."""

from slidestudy.features.maps import draw_map
from slidestudy.features.summary import summarise
from slidestudy.files import write_json
from slidestudy.job import rule_script
from slidestudy.tables import load_table, write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    summary = summarise(
        snakemake.input.stores,
        load_table(snakemake.input.slides),
        load_yaml(snakemake.input.settings),
        snakemake.params.scheduler,
        snakemake.threads,
    )
    for name in ("moments", "shift", "components", "duplicates", "map", "robustness"):
        write_table(snakemake.output.get(name), getattr(summary, name))
    draw_map(summary.map, snakemake.output.figure, summary.no_map)
    write_json(snakemake.output.record, summary.record)
