"""What the report shows of heatmaps: pictures of the chosen slides of each cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.report.collect import Results
from slidestudy.report.inline import data_uri
from slidestudy.report.layout import Picture, is_missing, plural, spread_evenly

SIDE = 460
"""Longer side of a picture, px."""
MOST = 9
"""Most slides of a cohort that are shown, each with up to two pictures."""
KINDS = {"score": "tile scores", "attention": "attention x tiles"}


def heatmap_galleries(name: str, results: Results) -> list[dict[str, Any]]:
    """The galleries of a model: for each cohort its pictures and a sentence on how they were chosen.

    Args:
        name: The model.
        results: The study's results.

    Returns:
        `cohort pictures note`; none of models without heatmaps.
    """
    galleries = []
    for cohort, table in results.models[name].heatmaps.items():
        shown = table.iloc[spread_evenly(len(table), MOST)]
        folder = results.folder / "heatmaps" / name / cohort
        pictures = [picture for _, row in shown.iterrows() for picture in _pictures(folder, row)]
        note = f"{plural(len(shown), 'slide')} of {len(table)} with heatmaps"
        galleries.append({"cohort": cohort, "pictures": pictures, "note": note + _unseen(shown)})
    return [gallery for gallery in galleries if gallery["pictures"]]


def _pictures(folder: Path, row: pd.Series) -> list[Picture]:
    """The pictures of a slide."""
    slide = str(row["slide_id"])
    said = f"prediction {_text(row['prediction'])}, label {_text(row['label'])}"
    return [
        Picture(
            data_uri(path, SIDE),
            f"{kind.capitalize()} on slide {slide}",
            f"{slide}: {row['why']}",
            (_colours(row, name, kind), said),
        )
        for name, kind in KINDS.items()
        if (path := folder / f"{slide}.{name}.png").is_file()
    ]


def _colours(row: pd.Series, name: str, kind: str) -> str:
    """What is shown, with the ends of its colours."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return kind if is_missing(low) else f"{kind}, {low:.3g} (dark) to {high:.3g} (yellow)"


def _text(value: Any) -> str:
    """A value as the table has it."""
    if is_missing(value):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unseen(shown: pd.DataFrame) -> str:
    """Why pictures are missing, if some are."""
    reasons = sorted({str(reason) for reason in shown["undefined_reason"] if not is_missing(reason)} - {""})
    return f" ({'; '.join(reasons)})" if reasons else ""
