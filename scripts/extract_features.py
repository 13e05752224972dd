"""Extracts the features of one slide with one encoder."""

from slidestudy.features.encoders import build_encoder
from slidestudy.features.extraction import extract_features
from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.settings import load_yaml

with rule_script(snakemake.log[0]):
    settings = load_yaml(snakemake.input.settings)
    spec, tiles = settings["encoder"], settings["tiles"]
    extract_features(
        read_json(snakemake.input.entry),
        read_json(snakemake.input.inspection),
        read_json(snakemake.input.tissue),
        snakemake.input.geojson,
        build_encoder(spec, tiles["size"], tiles["mpp"], settings["seed"], snakemake.threads),
        tiles,
        snakemake.output.store,
        batch_size=spec["batch_size"],
        threads=snakemake.threads,
    )
