"""Tests the configured reader on known patches."""

from pathlib import Path

from slidestudy.explanations.gate import QUESTION, ask_gate, gate_digest, judge_gate, read_gate
from slidestudy.explanations.ledger import Job
from slidestudy.explanations.readers.building import build_reader
from slidestudy.files import write_json
from slidestudy.job import rule_script
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    table, patches = read_gate(snakemake.input.table)
    job = Job(Path(snakemake.params.ledger), QUESTION.name, snakemake.rule, QUESTION.name)
    reader = build_reader(load_yaml(snakemake.input.reader)["reader"] | load_yaml(snakemake.input.endpoint), job)
    result = judge_gate(ask_gate(reader, patches), table, load_yaml(snakemake.input.settings))
    write_json(snakemake.output.gate, {**result, "digest": gate_digest(snakemake.input.table, table)})
