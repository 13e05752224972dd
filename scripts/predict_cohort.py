"""Predicts one cohort with one model: slides, and the tiles of each."""

from slidestudy.files import atomic_path
from slidestudy.job import rule_script
from slidestudy.models.checkpoint import load_ensemble
from slidestudy.models.cohort import predict_cohort
from slidestudy.models.training import make_deterministic
from slidestudy.tables import load_table, write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    make_deterministic(0, snakemake.threads)
    folds = load_ensemble(list(snakemake.input.folds))
    splits, labels = load_table(snakemake.input.splits), load_table(snakemake.input.labels)
    settings = load_yaml(snakemake.input.settings)
    together = settings["splits"]["lookalikes"] == "keep-together"
    modality = settings["modality"]["table"] if "modality" in settings else None
    lookalikes = load_table(snakemake.input.lookalikes) if together else None
    with atomic_path(snakemake.output.tiles) as partial:
        partial.mkdir()
        table = predict_cohort(folds, splits, labels, snakemake.input.stores, partial, lookalikes, modality)
    write_table(snakemake.output.predictions, table)
