"""Trains one patch encoder on tiles of the study's slides."""

import cv2

from slidestudy.features.pretraining.publication import publish
from slidestudy.features.pretraining.sampling import SlideFiles, collect_tiles
from slidestudy.features.pretraining.training import train_encoder
from slidestudy.files import read_json
from slidestudy.job import rule_script
from slidestudy.tables import load_table
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    # The reader's threads share out the tiles; OpenCV's own would stand in their way.
    cv2.setNumThreads(1)
    settings = load_yaml(snakemake.input.settings)
    spec, recipe, seed = settings["encoder"], settings["pretraining"], settings["seed"]
    files = (snakemake.input.entries, snakemake.input.inspections, snakemake.input.tissue)
    records = [[read_json(path) for path in paths] for paths in files]
    tiles = collect_tiles(
        [SlideFiles(*slide) for slide in zip(*records, snakemake.input.geojson, strict=True)],
        load_table(snakemake.input.table),
        settings["tiles"],
        recipe["tiles_per_slide"],
        seed,
        threads=snakemake.threads,
        reading=snakemake.params.reading,
    )
    print(f"{len(tiles)} tiles of {len(set(tiles.slides))} slides; left out: {tiles.left_out or 'none'}", flush=True)
    trained = train_encoder(tiles, spec, recipe, seed, log=lambda line: print(line, flush=True))
    publish(snakemake.output.encoder, trained, tiles, spec, recipe, settings["tiles"], seed)
