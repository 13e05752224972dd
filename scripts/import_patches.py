"""Copies a set of patches that a person chose."""

from slidestudy.explanations.imported import import_patches
from slidestudy.files import atomic_path
from slidestudy.job import rule_script
from slidestudy.tables import load_table

with rule_script(snakemake.log[0]):
    roster = load_table(snakemake.input.roster)
    known = dict(zip(roster["slide_id"], zip(roster["patient_id"], roster["cohort"], strict=True), strict=True))
    with atomic_path(snakemake.output.patches) as partial:
        import_patches(partial, snakemake.params.folder, known)
