"""Compares slide encoders over the same folds."""

from slidestudy.job import rule_script
from slidestudy.tables import load_table
from slidestudy.validation.encoder_comparison import compare_encoders, stores_by_candidate
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    settings = load_yaml(snakemake.input.settings)
    roles = dict(settings["roles"])
    stores = stores_by_candidate(snakemake.input.features, settings["candidates"], len(roles))
    compare_encoders(stores, load_table(snakemake.input.labels), roles, settings, snakemake.output.comparison)
