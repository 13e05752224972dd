"""Writes the splits of a model for which nothing is trained: a table without rows."""

from slidestudy.job import rule_script
from slidestudy.models.splits import no_splits
from slidestudy.tables import write_table

with rule_script(snakemake.log[0]):
    write_table(snakemake.output.splits, no_splits())
