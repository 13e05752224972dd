"""Scores the explanations of one model."""

from slidestudy.explanations.answering import read_answers
from slidestudy.explanations.patches import read_patch_folder
from slidestudy.explanations.scoring import score_all
from slidestudy.job import rule_script
from slidestudy.tables import write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    table, card = read_patch_folder(snakemake.input.patches)
    names = snakemake.params.explanations
    answers = {name: read_answers(path) for name, path in zip(names, snakemake.input.answers, strict=True)}
    scores, pairs = score_all(answers, table, card, load_yaml(snakemake.input.settings))
    write_table(snakemake.output.pairs, pairs)
    write_table(snakemake.output.scores, scores)
