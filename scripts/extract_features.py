"""Extracts the features of one slide with one encoder."""

import cv2

from slidestudy.features.encoders import build_encoder
from slidestudy.features.extraction import extract_features
from slidestudy.features.normalisation import build_normaliser
from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    # The reader's threads share out the tiles; OpenCV's own would stand in their way.
    cv2.setNumThreads(1)
    settings = load_yaml(snakemake.input.settings)
    spec, tiles = settings["encoder"], settings["tiles"]
    for folder in snakemake.input.trained:
        spec["weights"] = f"{folder}/model.safetensors"
    extract_features(
        read_json(snakemake.input.entry),
        read_json(snakemake.input.inspection),
        read_json(snakemake.input.tissue),
        snakemake.input.geojson,
        build_encoder(
            spec, tiles["size"], tiles["mpp"], settings["seed"], snakemake.threads, snakemake.params.weights_dir
        ),
        tiles,
        snakemake.output.store,
        batch_size=spec["batch_size"],
        threads=snakemake.threads,
        reading=snakemake.params.reading,
        normaliser=build_normaliser(spec["normaliser"]),
    )
