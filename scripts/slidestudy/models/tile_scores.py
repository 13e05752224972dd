"""Tile scores and attention of a predicted slide on disk: Zarr v3, format `slidestudy-tile-scores/1`."""

from __future__ import annotations

import os
from typing import Any

import zarr
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.store import read_arrays, write_arrays

FORMAT = "slidestudy-tile-scores/1"
COLUMNS = ("coords", "tissue_fraction", "score", "logit", "attention", "attention_logit")
FURTHER = ("scores", "logits")
"""Of a model with several outputs: all of them, (n_tiles, n_outputs); `score` and `logit` are the main one's."""


def write_tile_scores(
    path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], attributes: dict[str, Any]
) -> None:
    """Writes a slide's tile scores, rows as in the feature store without its unreadable tiles.

    Args:
        path: The final folder, `<slide>.zarr`.
        arrays: COLUMNS and, of a model with several outputs, FURTHER, each with one row per tile.
        attributes: `slide_id model fold recipe`.
    """
    if set(arrays) not in (set(COLUMNS), {*COLUMNS, *FURTHER}):
        raise ValueError(f"tile scores need the arrays {COLUMNS}, and may have {FURTHER}, not {tuple(arrays)}")
    write_arrays(path, arrays, {"format": FORMAT, **attributes})


def read_tile_scores(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads a slide's tile scores.

    Returns:
        The arrays by name, each with one row per tile, and the attributes.

    Raises:
        StudyError: It holds no tile scores.
    """
    remedy = "remove it; it will be made anew"
    try:
        group = zarr.open_group(path, mode="r")
    except (OSError, ValueError) as error:
        raise StudyError(f"holds no tile scores ({error})", str(path), remedy) from None
    if group.attrs.get("format") != FORMAT:
        raise StudyError(f"holds no tile scores of format {FORMAT}", str(path), remedy)
    columns = COLUMNS + FURTHER if FURTHER[0] in group else COLUMNS
    return read_arrays(path, columns), dict(group.attrs)
