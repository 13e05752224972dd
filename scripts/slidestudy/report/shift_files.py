"""Reads how far the external cohorts lie from the development cohorts; empty of a study without either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.report.feature_files import read_figure
from slidestudy.report.tables import read_table
from slidestudy.yaml_files import load_yaml

MEASURES = (
    "cohort", "measure", "value", "ci_low", "ci_high", "expected", "expected_low", "expected_high", "n", "n_reference",
    "n_patients", "detail", "undefined_reason",
)  # fmt: skip
SLIDES = ("cohort", "role", "slide_id", "distance", "percentile", "out_of_distribution")


@dataclass(frozen=True)
class ShiftFiles:
    """What there is of the shift as one encoder sees it.

    Attributes:
        measures: Columns MEASURES.
        slides: Columns SLIDES.
        figure: SVG text; blank where there is none.
        settings: `confidence bootstrap percentile` and more, where known.
    """

    measures: pd.DataFrame
    slides: pd.DataFrame
    figure: str
    settings: dict[str, Any]


def read_shift(folder: Path, encoder: str) -> ShiftFiles:
    """Reads the files of one encoder.

    Args:
        folder: The results folder.
        encoder: The encoder.

    Raises:
        StudyError: A table is damaged.
    """
    home, settings = folder / "shift" / encoder, folder / "settings" / f"shift.{encoder}.yaml"
    return ShiftFiles(
        measures=read_table(home / "shift.tsv", MEASURES),
        slides=read_table(home / "slides.tsv", SLIDES),
        figure=read_figure(home / "shift.svg"),
        settings=load_yaml(settings) if settings.is_file() else {},
    )
