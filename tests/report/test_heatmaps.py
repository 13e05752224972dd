"""The report shows the heatmaps of each model that has some, small, with why each slide was chosen."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slidestudy.report.build import build_report
from slidestudy.report.collect import read_results
from slidestudy.report.heatmaps import MOST, SIDE, heatmap_galleries
from slidestudy.tables import write_table
from slidestudy.validation.heatmaps import COLUMNS
from tests.report.fake_study import build_fake_results
from tests.report.test_report import Page

LARGEST = 60_000
"""Bytes of a picture in the page."""


def write_heatmaps(folder: Path, slides: int, attention: bool = True) -> None:
    """A cohort's heatmaps: pictures as large as real ones, and the table."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (16, 23, 3)).astype(np.uint8)
    # As restless as stained tissue below the colours.
    noise = rng.integers(-25, 25, (1600, 2300, 1))
    whole = np.asarray(Image.fromarray(tiles).resize((2300, 1600), Image.Resampling.NEAREST)).astype(int)
    picture = Image.fromarray(np.clip(whole + noise, 0, 255).astype(np.uint8))
    rows = []
    for place in range(slides):
        slide = f"S{place:02d}-1"
        for name in ("score", "attention") if attention else ("score",):
            picture.save(folder / f"{slide}.{name}.png", compress_level=1)
        reason = "" if attention else "no attention: the model has none"
        known = {"slide_id": slide, "patient_id": "p", "why": f"worst {place + 1}", "prediction": "41.5", "label": 5.0}
        ends = {"score_low": 0.0, "score_high": 1.0}
        ends |= {"attention_low": 0.286273, "attention_high": 3.493172} if attention else {}
        rows.append({**dict.fromkeys(COLUMNS), **known, **ends, "undefined_reason": reason})
    write_table(folder / "heatmaps.tsv", pd.DataFrame(rows, columns=COLUMNS))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    settings = build_fake_results(folder, explanations=False)
    write_heatmaps(folder / "heatmaps" / "til" / "north", 2)
    write_heatmaps(folder / "heatmaps" / "til" / "south", MOST + 3, attention=False)
    return folder, settings


def test_each_slide_has_its_pictures_with_prediction_label_and_why(study) -> None:
    north, _ = heatmap_galleries("til", read_results(*study))
    assert north["cohort"] == "north"
    assert [picture.title for picture in north["pictures"]] == ["S00-1: worst 1"] * 2 + ["S01-1: worst 2"] * 2
    assert [picture.lines[0] for picture in north["pictures"]] == [
        "tile scores, 0 (dark) to 1 (yellow)",
        "attention x tiles, 0.286 (dark) to 3.49 (yellow)",
    ] * 2
    assert north["pictures"][0].lines[1] == "prediction 41.5, label 5"
    assert north["note"] == "2 slides of 2 with heatmaps"


def test_of_many_slides_some_are_shown_and_missing_pictures_are_explained(study) -> None:
    _, south = heatmap_galleries("til", read_results(*study))
    assert len(south["pictures"]) == MOST
    assert south["note"] == f"{MOST} slides of {MOST + 3} with heatmaps (no attention: the model has none)"


def test_pictures_are_small(study) -> None:
    for gallery in heatmap_galleries("til", read_results(*study)):
        for picture in gallery["pictures"]:
            content = base64.b64decode(picture.uri.split(",")[1])
            assert len(content) <= LARGEST
    assert SIDE <= 500


def test_a_model_without_heatmaps_has_no_gallery(study) -> None:
    assert heatmap_galleries("mucin", read_results(*study)) == []


def test_the_page_shows_every_picture_once(study) -> None:
    page = Page(build_report(*study))
    shown = [alt for alt in page.values("alt") if "on slide" in alt]
    assert len(shown) == 4 + MOST
    assert "Heatmaps of north" in page.text
    assert "heatmaps/til/south" in page.text
