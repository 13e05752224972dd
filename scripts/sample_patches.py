"""Draws the frozen patch sample of one model."""

import numpy as np
import pandas as pd

from slidestudy.explanations.patches import published_threshold, tile_table, write_patches
from slidestudy.explanations.sampling import COVARIATE, sample_patches
from slidestudy.files import atomic_path, read_json
from slidestudy.job import rule_script
from slidestudy.tables import load_table, read_raw
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, cohorts = load_yaml(snakemake.input.settings), snakemake.params.cohorts
    tables = {
        cohort: tile_table(tiles, load_table(predictions), cohort, settings["tiles"]["mpp"])
        for cohort, tiles, predictions in zip(cohorts, snakemake.input.tiles, snakemake.input.predictions, strict=True)
    }
    reference = np.concatenate([tables[name]["logit"] for name in snakemake.params.reference])
    candidates = pd.concat([tables[name] for name in snakemake.params.drawn_from], ignore_index=True)
    if snakemake.input.strata:
        strata = read_raw(snakemake.input.strata[0]).set_index("slide_id")["value"]
        candidates[COVARIATE] = candidates["slide_id"].map(strata)
    sample = sample_patches(reference, candidates, settings, published_threshold(snakemake.input.fold))
    entries = {entry["slide_id"]: entry for entry in map(read_json, snakemake.input.entries)}
    mpps = {record["slide_id"]: record["mpp"]["value"] for record in map(read_json, snakemake.input.inspections)}
    with atomic_path(snakemake.output.patches) as partial:
        write_patches(partial, sample, entries, mpps, settings["tiles"]["size"], snakemake.params.reference)
