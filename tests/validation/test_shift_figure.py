"""The figure of a shift says what the tables say, and why a panel is empty."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.features.shift.made_shift import SETTINGS, records, write_stores

from slidestudy.features.shift.measuring import Shift, measure_shift
from slidestudy.validation.shift_figure import STAIN, draw_shift


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_stores(tmp_path_factory.mktemp("stores"), patients={"north": 8, "same": 4, "moved": 4})


def drawn(shift: Shift, folder: Path) -> list[str]:
    """The texts of the figure."""
    draw_shift(shift.measures, shift.slides, shift.limit, folder / "shift.svg")
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]+)</text>", (folder / "shift.svg").read_text())]


def test_every_cohort_has_its_slides_its_share_beyond_and_a_row_for_each_measure_of_stain(
    paths: list[Path], tmp_path: Path
) -> None:
    shift = measure_shift(paths, *records(paths), SETTINGS)
    texts = drawn(shift, tmp_path)
    assert set(STAIN.values()) <= set(texts)
    shares = shift.measures.query("measure == 'ood_share'").set_index("cohort")["value"]
    assert [text for text in texts if text.endswith("beyond")] == [f"{shares[c]:.0%} beyond" for c in ("same", "moved")]
    assert shares["moved"] == 1
    assert {"same, n = 5", "moved, n = 5", "development", "n = 10"} <= set(texts)
    assert "splits of development" in texts


def test_without_stain_its_panel_says_so_and_the_others_are_drawn(paths: list[Path], tmp_path: Path) -> None:
    texts = drawn(measure_shift(paths, [], [], SETTINGS), tmp_path)
    assert "no slide's stain was measured" in texts
    assert not set(STAIN.values()) & set(texts)
    assert "100% beyond" in texts


def test_a_cohort_without_features_is_undefined(paths: list[Path], tmp_path: Path) -> None:
    kept = [path for path in paths if path.parent.name != "same"]
    texts = drawn(measure_shift(kept, *records(kept), SETTINGS), tmp_path)
    assert texts.count("undefined") == 2
    assert "n = 0" in texts
