"""Writes the ledger: every slide and patient lost, at whichever stage, with the reason."""

from slidestudy.features.ledger import late_losses
from slidestudy.job import rule_script
from slidestudy.slides.admission import complete_ledger
from slidestudy.tables import load_table, write_table

with rule_script(snakemake.log[0]):
    lost = load_table(snakemake.input.lost).to_dict("records")
    labels = {path.rsplit("/", 1)[-1].removesuffix(".tsv"): load_table(path) for path in snakemake.input.labels}
    lost += late_losses(snakemake.input.tissue, snakemake.input.stores, load_table(snakemake.input.admitted), labels)
    roster, patients = load_table(snakemake.input.roster), load_table(snakemake.input.patients)
    write_table(snakemake.output.ledger, complete_ledger(lost, roster, patients))
