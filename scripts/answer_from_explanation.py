"""Answers, for every described patch, from one written explanation alone."""

from pathlib import Path

from slidestudy.explanations.answering import answer_all, explanation_text
from slidestudy.explanations.readers import build_reader
from slidestudy.files import write_text
from slidestudy.job import rule_script
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    text = explanation_text(snakemake.wildcards.explanation, Path(snakemake.input.text).read_text(encoding="utf-8"))
    reader = build_reader(load_yaml(snakemake.input.settings))
    descriptions = Path(snakemake.input.descriptions).read_text(encoding="utf-8")
    write_text(snakemake.output.answers, answer_all(reader, descriptions, text))
