"""Trains one fold of one model, with one seed or with several."""

from slidestudy.files import versions
from slidestudy.job import rule_script
from slidestudy.models.checkpoint import save_fold
from slidestudy.models.cohort import fold_parts
from slidestudy.models.resuming import forget
from slidestudy.models.training import train_members
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, fold = load_yaml(snakemake.input.settings), int(snakemake.wildcards.fold)
    splits, labels = load_table(snakemake.input.splits), load_table(snakemake.input.labels)
    parts, task = fold_parts(splits, labels, snakemake.input.stores, fold, settings)
    trained = train_members(parts, task, settings, fold, snakemake.output.fold)
    keys = ("name", "task", "target", "target_range", "encoder", "group_by", "covariates", "training")
    card = {**{key: settings[key] for key in keys if key in settings}, "fold": fold}
    card |= {"recipe": parts["train"].source.recipe, "software": versions("torch", "safetensors", "scikit-learn")}
    save_fold(snakemake.output.fold, trained, card)
    forget(snakemake.output.fold)
