"""The slide features of one cohort: Zarr v3, one folder, one row per slide (format `slidestudy-slide-features/1`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.identity import SlideEncoderIdentity
from slidestudy.features.store import content_checksum, read_arrays, write_arrays
from slidestudy.files import digest, read_json, versions

FORMAT = "slidestudy-slide-features/1"
REMEDY = "remove it; it will be made anew"
SOFTWARE = ("numpy", "zarr")


@dataclass(frozen=True)
class SlideFeatures:
    """The slide vectors of a cohort.

    Attributes:
        features: float32 (n_slides, dim).
        slide_ids: Slide of each row, sorted.
        patient_ids: Patient of each row.
        cohort: The cohort.
        attributes: All that the store says of itself.
    """

    features: NDArray[np.float32]
    slide_ids: list[str]
    patient_ids: list[str]
    cohort: str
    attributes: dict[str, Any]


def recipe_of(identity: SlideEncoderIdentity, patch_recipe: str) -> str:
    """Digest of all that decides the meaning of slide features: equal recipes give comparable vectors."""
    return digest({"slide_encoder": asdict(identity), "patch_recipe": patch_recipe})


def write_slide_features(
    path: str | os.PathLike[str],
    features: NDArray[np.float32],
    slide_ids: Sequence[str],
    patient_ids: Sequence[str],
    cohort: str,
    identity: SlideEncoderIdentity | None,
    patch_recipe: str | None,
    software: Sequence[str] = SOFTWARE,
) -> None:
    """Writes the slide features of a cohort, atomically.

    Args:
        path: The final folder, `<cohort>.zarr`.
        features: (n_slides, dim).
        slide_ids: Slide of each row.
        patient_ids: Patient of each row.
        cohort: The cohort.
        identity: The slide encoder; None for a cohort that has no slide.
        patch_recipe: Recipe of the patch features; None for a cohort that has no slide.
        software: Packages whose versions are recorded.

    Raises:
        StudyError: A vector is not finite.
    """
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        slide = slide_ids[int(np.flatnonzero(~finite)[0])]
        raise StudyError("the slide's vector is not finite", slide, "check its patch features: slidestudy verify")
    attributes = {
        "format": FORMAT,
        "cohort": cohort,
        "slide_ids": list(slide_ids),
        "patient_ids": list(patient_ids),
        "ids_digest": digest([list(slide_ids), list(patient_ids)]),
        "slide_encoder": asdict(identity) if identity else None,
        "patch_recipe": patch_recipe,
        "recipe": recipe_of(identity, patch_recipe) if identity and patch_recipe else None,
        "software": versions(*software),
    }
    write_arrays(path, {"features": features.astype(np.float32)}, attributes)


def read_slide_features(path: str | os.PathLike[str], recipe: str | None = None) -> SlideFeatures:
    """Reads the slide features of a cohort, checked.

    Args:
        path: The folder.
        recipe: The recipe that they must have; any where None, or where the cohort has no slide.

    Raises:
        StudyError: It is no such store, it is damaged, or it was made by another recipe.
    """
    where = os.fspath(path)
    try:
        attributes = read_json(Path(path) / "zarr.json")["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        attributes = None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise StudyError(f"is no store of slide features of format {FORMAT}", where, REMEDY)
    if recipe is not None and attributes["slide_ids"] and attributes["recipe"] != recipe:
        what = f"was made by recipe {attributes['recipe']}, and {recipe} is needed"
        raise StudyError(what, where, "encode all cohorts with the same slide encoder and patch features")
    try:
        arrays = read_arrays(path, ("features",))
    except Exception as error:
        # Each of Zarr's codecs fails in its own way on bytes that it cannot decode.
        raise StudyError(f"is damaged: it cannot be decoded ({error})", where, REMEDY) from None
    slides, patients = attributes["slide_ids"], attributes["patient_ids"]
    sound = (
        content_checksum(arrays) == attributes["checksum"] and digest([slides, patients]) == attributes["ids_digest"]
    )
    if not sound or len(arrays["features"]) != len(slides):
        raise StudyError("is damaged: its checksum differs", where, REMEDY)
    return SlideFeatures(arrays["features"], slides, patients, attributes["cohort"], attributes)
