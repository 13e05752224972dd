"""Trains one fold of one model on shares of its training part, and predicts with each."""

from slidestudy.files import atomic_path
from slidestudy.job import rule_script
from slidestudy.models.label_efficiency import train_shares
from slidestudy.models.resuming import forget
from slidestudy.tables import load_table, write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, shares = load_yaml(snakemake.input.settings), load_yaml(snakemake.input.shares)
    together = settings["splits"]["lookalikes"] == "keep-together"
    predictions, trainings = train_shares(
        load_table(snakemake.input.splits),
        load_table(snakemake.input.labels),
        {"development": snakemake.input.development, "external": snakemake.input.external},
        int(snakemake.wildcards.fold),
        settings,
        fractions=shares["fractions"],
        repeats=shares["repeats"],
        output=snakemake.output.fold,
        lookalikes=load_table(snakemake.input.lookalikes) if together else None,
        search=next(iter(snakemake.input.search), None),
    )
    with atomic_path(snakemake.output.fold) as partial:
        partial.mkdir()
        write_table(partial / "predictions.tsv", predictions)
        write_table(partial / "shares.tsv", trainings)
    forget(snakemake.output.fold)
