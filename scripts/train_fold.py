"""Trains one fold of one model."""

from slidestudy.files import versions
from slidestudy.job import rule_script
from slidestudy.models.checkpoint import save_fold
from slidestudy.models.cohort import fold_examples
from slidestudy.models.training import train_fold
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, fold = load_yaml(snakemake.input.settings), int(snakemake.wildcards.fold)
    splits, labels = load_table(snakemake.input.splits), load_table(snakemake.input.labels)
    parts, recipe = fold_examples(splits, labels, snakemake.input.stores, fold, settings["target_range"])
    task, aggregator, seed = settings["task"], settings["aggregator"], settings["seed"] + fold
    trained = train_fold(
        parts["train"],
        parts["validation"],
        task=task,
        aggregator=aggregator,
        recipe=settings["training"],
        seed=seed,
    )
    keys = ("name", "task", "target", "target_range", "encoder", "group_by", "training")
    card = {**{key: settings[key] for key in keys}, "fold": fold, "seed": seed, "recipe": recipe}
    save_fold(snakemake.output.fold, trained, {**card, "software": versions("torch", "safetensors", "dask")})
