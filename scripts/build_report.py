"""Builds the HTML report of the study."""

from pathlib import Path

from slidestudy.files import write_text
from slidestudy.job import rule_script
from slidestudy.report.build import build_report
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    page = build_report(Path(snakemake.params.results), load_yaml(snakemake.input.settings))
    write_text(snakemake.output.report, page)
