"""Summarises the trainings on shares of the patients: the headline metric with its intervals, and its figure."""

from pathlib import Path

import pandas as pd

from slidestudy.job import rule_script
from slidestudy.tables import load_table, write_table
from slidestudy.validation.label_efficiency import summarise
from slidestudy.validation.label_efficiency_figure import draw_label_efficiency
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings = load_yaml(snakemake.input.settings)
    predictions, shares = (
        pd.concat([load_table(Path(fold) / name) for fold in snakemake.input.folds], ignore_index=True)
        for name in ("predictions.tsv", "shares.tsv")
    )
    table = summarise(predictions, shares, snakemake.params.roles, settings)
    draw_label_efficiency(table, settings, snakemake.output.figure, snakemake.output.figure_png)
    write_table(snakemake.output.table, table)
