"""Writes what became of the slides: the ledger of those lost, the warnings and the quality of those kept."""

from slidestudy.features.ledger import late_losses
from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.slides.admission import complete_ledger
from slidestudy.tables import load_table, write_table
from slidestudy.tissue.quality_tables import quality_table, warning_table

with rule_script(snakemake.log[0]):
    lost = load_table(snakemake.input.lost).to_dict("records")
    labels = {path.rsplit("/", 1)[-1].removesuffix(".tsv"): load_table(path) for path in snakemake.input.labels}
    admitted, models = load_table(snakemake.input.admitted), snakemake.params.models
    lost += late_losses(snakemake.input.tissue, snakemake.input.stores, admitted, labels, models)
    roster, patients = load_table(snakemake.input.roster), load_table(snakemake.input.patients)
    inspections, tissues = ([read_json(p) for p in snakemake.input[key]] for key in ("inspections", "tissue"))
    lookalikes = load_table(snakemake.input.lookalikes)
    write_table(snakemake.output.warnings, warning_table(inspections, tissues, lookalikes))
    write_table(snakemake.output.quality, quality_table(inspections, tissues))
    write_table(snakemake.output.ledger, complete_ledger(lost, roster, patients))
