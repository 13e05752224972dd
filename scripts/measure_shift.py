"""Measures how far the external cohorts lie from the development cohorts, for one encoder."""

from slidestudy.features.shift.measuring import measure_shift
from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.tables import write_table
from slidestudy.validation.shift_figure import draw_shift
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings = load_yaml(snakemake.input.settings)
    shift = measure_shift(
        snakemake.input.stores,
        [read_json(path) for path in snakemake.input.inspections],
        [read_json(path) for path in snakemake.input.tissues],
        settings,
        snakemake.params.scheduler,
        snakemake.threads,
    )
    draw_shift(shift.measures, shift.slides, shift.limit, snakemake.output.figure, snakemake.output.figure_png)
    write_table(snakemake.output.slides, shift.slides)
    write_table(snakemake.output.shift, shift.measures)
