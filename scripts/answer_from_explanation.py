"""Answers, for every described patch, from one written explanation alone."""

from pathlib import Path

from slidestudy.attribution_kinds import shown_images
from slidestudy.explanations.answering import answer_sample
from slidestudy.explanations.controls import read_variant
from slidestudy.explanations.ledger import Job
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.patches import read_patch_folder, read_patches
from slidestudy.explanations.readers.building import build_reader
from slidestudy.files import write_text
from slidestudy.job import rule_script
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    name, settings = snakemake.wildcards.explanation, load_yaml(snakemake.input.settings)
    explanation = read_variant(name, next(iter(snakemake.input.get("text", [])), None))
    job = Job(Path(snakemake.params.ledger), snakemake.wildcards.model, snakemake.rule, name)
    reader = build_reader(settings["reader"] | load_yaml(snakemake.input.endpoint), job)
    table, _ = read_patch_folder(snakemake.input.patches)
    attributions, images = next(iter(snakemake.input.attributions), None), shown_images(settings["reader"])
    patches = read_patches(snakemake.input.patches, table, images, attributions)
    looked_at = patches if reader.needs_images or name == IMAGE_ONLY else []
    descriptions = Path(snakemake.input.descriptions).read_text(encoding="utf-8")
    text = answer_sample(reader, descriptions, explanation, looked_at, settings["repeats"])
    write_text(snakemake.output.answers, text)
