"""Takes over the predictions of one cohort from a file that others made."""

from slidestudy.files import write_json
from slidestudy.job import rule_script
from slidestudy.models.adopted import adopt_predictions
from slidestudy.tables import load_table, write_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings, path = load_yaml(snakemake.input.settings), snakemake.input.predictions
    labels, admitted = load_table(snakemake.input.labels), load_table(snakemake.input.admitted)
    table, card = adopt_predictions(path, settings, labels, admitted, snakemake.wildcards.cohort)
    write_json(snakemake.output.card, card)
    write_table(snakemake.output.predictions, table)
