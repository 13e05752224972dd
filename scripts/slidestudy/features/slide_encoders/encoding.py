"""Encoding the slides of a cohort: patch stores in, one store of slide vectors out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from slidestudy.features.slide_encoders.building import POOLING, build_slide_encoder
from slidestudy.features.slide_encoders.identity import SlideEncoder
from slidestudy.features.slide_encoders.store import SOFTWARE, write_slide_features
from slidestudy.features.store import common_recipe, read_attributes, read_features


def encode_cohort(
    spec: dict[str, Any],
    stores: Sequence[str | os.PathLike[str]],
    cohort: str,
    output: str | os.PathLike[str],
    threads: int = 1,
) -> None:
    """Encodes the slides of a cohort, one at a time, and writes their vectors in the order of the slides' ids.

    Slides that were excluded at the tissue or feature stage are left out.

    Args:
        spec: The slide encoder's complete entry, with its `name`.
        stores: Feature stores of the cohort's slides.
        cohort: The cohort.
        output: The final folder.
        threads: CPU threads.

    Raises:
        StudyError: Patch features that the slide encoder does not read, stores of several recipes or damaged ones.
    """
    said = [(read_attributes(path), path) for path in stores]
    kept = sorted(
        (
            (attributes["slide_id"], attributes["patient_id"], path)
            for attributes, path in said
            if _is_usable(attributes)
        ),
        key=lambda row: row[0],
    )
    if not kept:
        write_slide_features(output, np.zeros((0, 1), np.float32), [], [], cohort, None, None)
        return
    recipe = common_recipe([path for _, _, path in kept])
    encoder: SlideEncoder = build_slide_encoder(spec, read_attributes(kept[0][2]), threads)
    vectors = np.stack([encoder.encode(read_features(path, recipe)) for _, _, path in kept])
    slides, patients = [row[0] for row in kept], [row[1] for row in kept]
    packages = SOFTWARE if spec["backend"] in POOLING else (*SOFTWARE, "torch", "transformers", "gigapath", "madeleine")
    write_slide_features(output, vectors, slides, patients, cohort, encoder.identity, recipe, packages)


def _is_usable(attributes: dict[str, Any]) -> bool:
    """Whether a slide was not excluded and has a readable tile."""
    return attributes["status"] == "admitted" and attributes["n_tiles"] > attributes["n_unreadable"]
