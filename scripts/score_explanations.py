"""Scores the explanations of one model."""

from pathlib import Path

from slidestudy.explanations.documents import read_explanation
from slidestudy.explanations.ledger import ledger_summary
from slidestudy.explanations.stage import score_model
from slidestudy.explanations.subsets import FROZEN
from slidestudy.files import atomic_path, read_json
from slidestudy.job import rule_script
from slidestudy.tables import write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    inputs, params = snakemake.input, snakemake.params
    folders = {FROZEN: Path(inputs.patches).parent}
    folders |= {name: Path(path).parent for name, path in zip(params.sets, inputs.sets, strict=True)}
    texts = {name: read_explanation(path, name) for name, path in zip(params.texts, inputs.texts, strict=True)}
    gate = read_json(inputs.gate[0])["result"] if inputs.gate else None
    scored = score_model(folders, params.explanations, params.asked, texts, gate, load_yaml(inputs.settings))
    with atomic_path(snakemake.output.x2x) as partial:
        scored.write_x2x(partial)
    write_table(snakemake.output.usage, ledger_summary(params.ledger, snakemake.wildcards.model))
    for name in ("most_wrong", "statements", "pairs", "scores"):
        write_table(snakemake.output[name], getattr(scored, name))
