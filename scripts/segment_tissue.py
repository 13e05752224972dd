"""Finds the tissue of one slide."""

import cv2

from slidestudy.files import atomic_path, read_json, write_json
from slidestudy.job import rule_script
from slidestudy.tissue.segmentation import segment_tissue
from slidestudy.yaml_files import load_yaml

with rule_script(snakemake.log[0]):
    cv2.setNumThreads(snakemake.threads)
    entry, inspection = read_json(snakemake.input.entry), read_json(snakemake.input.inspection)
    found = segment_tissue(entry, inspection, load_yaml(snakemake.input.settings), snakemake.params.reading)
    write_json(snakemake.output.geojson, found.geojson)
    with atomic_path(snakemake.output.overlay) as partial:
        cv2.imwrite(str(partial), cv2.cvtColor(found.overlay, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    write_json(snakemake.output.record, found.record)
