"""Describes every patch of a sample with the configured reader."""

from pathlib import Path

from slidestudy.attribution_kinds import shown_images
from slidestudy.explanations.answering import describe_sample
from slidestudy.explanations.ledger import Job
from slidestudy.explanations.patches import read_patch_folder, read_patches
from slidestudy.explanations.readers.building import build_reader
from slidestudy.files import write_text
from slidestudy.job import rule_script
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    table, _ = read_patch_folder(snakemake.input.patches)
    settings = load_yaml(snakemake.input.settings)
    job = Job(Path(snakemake.params.ledger), snakemake.wildcards.model, snakemake.rule)
    reader = build_reader(settings["reader"] | load_yaml(snakemake.input.endpoint), job)
    attributions = next(iter(snakemake.input.attributions), None)
    patches = read_patches(snakemake.input.patches, table, shown_images(settings["reader"]), attributions)
    text = describe_sample(reader, list(patches))
    write_text(snakemake.output.descriptions, text)
