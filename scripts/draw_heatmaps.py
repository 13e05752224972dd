"""Draws a model's heatmaps of chosen slides of one cohort."""

from pathlib import Path

from slidestudy.files import atomic_path, read_json
from slidestudy.job import rule_script
from slidestudy.tables import load_table
from slidestudy.validation.heatmaps import draw_heatmaps
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    entries, inspections = (
        {record["slide_id"]: record for record in map(read_json, paths)}
        for paths in (snakemake.input.entries, snakemake.input.inspections)
    )
    predictions = load_table(snakemake.input.predictions)
    stores = {Path(path).name.removesuffix(".zarr"): path for path in snakemake.input.stores}
    settings = load_yaml(snakemake.input.settings)
    with atomic_path(snakemake.output.heatmaps) as partial:
        partial.mkdir()
        reading = snakemake.params.reading
        draw_heatmaps(partial, predictions, snakemake.input.tiles, entries, inspections, stores, settings, reading)
