"""Decides which inspected slides enter the study."""

from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.slides.admission import admit
from slidestudy.tables import write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    options = load_yaml(snakemake.input.settings)
    records = (read_json(path) for path in snakemake.input.records)
    found = admit(records, options["near_duplicates"], options["near_duplicate_bits"])
    write_table(snakemake.output.lost, found.lost)
    write_table(snakemake.output.lookalikes, found.lookalikes)
    write_table(snakemake.output.admitted, found.admitted)
