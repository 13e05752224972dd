"""Reads what there is of the attribution of a model's patches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.explanations.attribution.summary import FAITHFULNESS
from slidestudy.report.tables import read_record, read_table

PATCHES = ("patch_id", "slide_id", "patient_id", "stratum", "logit", "output", "attention")


@dataclass(frozen=True)
class AttributionFiles:
    """What there is of the attribution of one model's patches.

    Attributes:
        card: `attribution.json`; empty where nothing is attributed.
        faithfulness: Columns FAITHFULNESS.
        patches: The attributed patches, columns PATCHES.
        folder: The folder of the images.
    """

    card: dict[str, Any]
    faithfulness: pd.DataFrame
    patches: pd.DataFrame
    folder: Path


def read_attribution(folder: Path) -> AttributionFiles:
    """Reads what there is of the attribution of one model's patches.

    Args:
        folder: `explanations/<model>/attributions`.

    Raises:
        StudyError: A table is damaged.
    """
    return AttributionFiles(
        card=read_record(folder / "attribution.json"),
        faithfulness=read_table(folder / "faithfulness.tsv", tuple(FAITHFULNESS)),
        patches=read_table(folder / "patches.tsv", PATCHES),
        folder=folder,
    )
