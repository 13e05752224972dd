"""The patch folder of a model: candidates from tile scores, images cut from slides, and reading it again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy.attribution_kinds import NORMALISED
from slidestudy.errors import StudyError
from slidestudy.explanations.protocol import Patch
from slidestudy.explanations.sampling import PatchSample
from slidestudy.files import read_json, write_json
from slidestudy.models.tile_scores import read_tile_scores
from slidestudy.slides.reader import Slide
from slidestudy.tables import load_table, write_table

JPEG_QUALITY = 95


def tile_table(folder: str | os.PathLike[str], predictions: pd.DataFrame, cohort: str, mpp: float) -> pd.DataFrame:
    """All tiles of a predicted cohort, as candidates for the sample.

    Args:
        folder: `predictions/<model>/<cohort>`.
        predictions: The cohort's predictions.
        cohort: Its name.
        mpp: Resolution of the tiles, um/px.

    Returns:
        `slide_id patient_id cohort x y mpp score logit attention_logit tissue_fraction`.
    """
    tables = []
    for row in predictions.itertuples():
        arrays, _ = read_tile_scores(Path(folder) / f"{row.slide_id}.zarr")
        columns = ("score", "logit", "attention_logit", "tissue_fraction")
        # Doubles come back from text as they were; a rounded single could cross the threshold.
        table = pd.DataFrame({key: arrays[key].astype(np.float64) for key in columns})
        table[["x", "y"]] = arrays["coords"]
        tables.append(table.assign(slide_id=row.slide_id, patient_id=row.patient_id, cohort=cohort, mpp=mpp))
    if not tables:
        raise StudyError(f"cohort {cohort} has no predicted slide", "sample_patches", "look in slides/ledger.tsv")
    return pd.concat(tables, ignore_index=True)


def published_threshold(folds: Iterable[str | os.PathLike[str]]) -> float | None:
    """The threshold that published weights came with, by the first fold that has one; None without.

    Args:
        folds: Folders `models/<model>/fold-<k>` of published weights; none for a trained model.
    """
    found = (read_json(Path(fold) / "model.json")["thresholds"].get("published") for fold in folds)
    return next((float(value) for value in found if value is not None), None)


def write_patches(
    folder: Path,
    sample: PatchSample,
    entries: Mapping[str, Mapping[str, Any]],
    mpps: Mapping[str, float],
    size: int,
    reference: Sequence[str],
) -> None:
    """Writes a sample's table, its digest and its patches.

    Args:
        folder: The patch folder.
        sample: The frozen sample.
        entries: Slide id -> its row with `path`.
        mpps: Slide id -> slide mpp, um/px.
        size: Side of a patch, px.
        reference: The cohorts whose tiles set the spread of the sample, and its threshold unless that was published.
    """
    folder.mkdir(parents=True)
    write_table(folder / "sample.tsv", sample.table)
    cohorts = ", ".join(reference)
    card = {
        "threshold": sample.threshold,
        "threshold_from": "published weights" if sample.threshold_published else f"median of the tiles of {cohorts}",
        "spread": sample.spread,
        "spread_from": f"SD of the tiles of {cohorts}",
        "digest": sample.digest,
        "patches": len(sample.table),
    }
    write_json(folder / "sample.json", card)
    for slide_id, rows in sample.table.groupby("slide_id", sort=True):
        name = str(slide_id)
        with Slide(entries[name]["path"], name) as slide:
            for row in rows.itertuples():
                image = slide.read_square(row.x, row.y, size * row.mpp / mpps[name], size)
                _write_patch(folder / str(row.patch_id), image, row)


def _write_patch(folder: Path, image: NDArray[np.uint8], row: Any) -> None:
    """Writes `rgb.jpeg` and `metadata.json` of a patch, keys as in X2X."""
    folder.mkdir(parents=True)
    encoded, data = cv2.imencode(
        ".jpeg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not encoded:
        raise StudyError("the patch cannot be written as JPEG", str(folder))
    (folder / "rgb.jpeg").write_bytes(data.tobytes())
    metadata = {
        "raw_logits": {"label_0": float(row.logit)},
        "probabilities": {"label_0": float(row.score)},
        # Undefined of some aggregators.
        "attention_logits": {"label_0": None if np.isnan(row.attention_logit) else float(row.attention_logit)},
        "stratum": row.stratum,
        "cohort": row.cohort,
        "mpp": row.mpp,
    }
    write_json(folder / "metadata.json", metadata)


def read_patch_folder(folder: str | os.PathLike[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The sample's table and its card."""
    return load_table(Path(folder) / "sample.tsv"), read_json(Path(folder) / "sample.json")


def read_patches(
    folder: str | os.PathLike[str],
    table: pd.DataFrame,
    images: Sequence[str] = (),
    attributions: str | os.PathLike[str] | None = None,
) -> Iterable[Patch]:
    """The sample's images, in the table's order.

    Args:
        folder: The patch folder.
        table: The patches.
        images: What is wanted beside `rgb`: `normalised`, or maps; what a patch has not got is left out.
        attributions: The folder of `attribute_patches`; None: those lie with the patches, as X2X saves them.
    """
    for row in table.itertuples():
        image = _read_image(Path(folder) / str(row.patch_id) / "rgb.jpeg")
        if image is None:
            raise StudyError(
                "the patch image is missing", str(Path(folder) / str(row.patch_id)), "remove the patches folder"
            )
        place = Path(attributions or folder) / str(row.patch_id)
        found = {name: read for name in images if (read := _read_image(place / f"{name}.jpeg")) is not None}
        normalised = found.pop(NORMALISED, None)
        yield Patch(str(row.patch_id), image, float(row.mpp), normalised, found)


def _read_image(path: Path) -> NDArray[np.uint8] | None:
    """An image as RGB, uint8 (height, width, 3); None where there is none."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
