"""Decides which inspected slides enter the study."""

from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.slides.admission import admit
from slidestudy.tables import write_table

with rule_script(snakemake.log[0]):
    admitted, lost = admit(read_json(path) for path in snakemake.input.records)
    write_table(snakemake.output.lost, lost)
    write_table(snakemake.output.admitted, admitted)
