"""Figures of Kaplan-Meier curves: valid SVG and PNG with the tables' numbers, the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.validation.test_kaplan_meier import ALL, ENDPOINT, ROLES, endpoint, patients

from slidestudy.validation.kaplan_meier import CUTOFFS, MEDIAN, Split, make_splits
from slidestudy.validation.kaplan_meier_figure import draw_kaplan_meier, log_rank_words

SVG = "{http://www.w3.org/2000/svg}"


def splits_of(rows: pd.DataFrame, **changed) -> list[Split]:
    return make_splits(rows, "overall-survival", endpoint(**changed), ROLES, ALL, 0.95)


def cohorts() -> pd.DataFrame:
    return pd.concat([patients(60), patients(50, 1, "south")])


def draw(splits: list[Split], kind: str, path: Path) -> list[str]:
    """The texts of a figure."""
    draw_kaplan_meier(splits, kind, path)
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def test_figures_are_the_same_when_drawn_twice_and_svg_and_png_are_of_one_figure(tmp_path) -> None:
    for name in ("a", "b"):
        draw_kaplan_meier(splits_of(cohorts()), CUTOFFS, tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    for suffix in ("svg", "png"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]


def test_panels_name_cohorts_sizes_groups_and_the_test(tmp_path) -> None:
    splits = splits_of(cohorts())
    texts = draw(splits, CUTOFFS, tmp_path / "curves.svg")
    drawn = [s for s in splits if s.kind == (CUTOFFS if s.score == "til" else MEDIAN)]
    for split in drawn:
        assert f"{split.cohort} ({split.role}), n = {split.test.n}, {split.test.n_events} events" in texts
        assert log_rank_words(split) in texts
        for group in split.groups:
            shown = group.name.replace(">=", "≥")
            assert f"{shown}: n = {len(group.time)}, {int(group.event.sum())} events" in texts
            assert shown in texts
    assert "time (years)" in texts
    assert {"til", "tils", "overall-survival"} <= set(texts)
    assert not any("nan" in text for text in texts)


def test_the_numbers_at_risk_are_those_of_the_patients(tmp_path) -> None:
    rows = patients(40).assign(time=np.repeat([1.0, 3.0, 5.0, 7.0], 10), event=1)
    texts = draw(splits_of(rows, scores={"til": {"cutoffs": [1000]}}), CUTOFFS, tmp_path / "curves.svg")
    # At 0, 2, 4 and 6; of the group without patients 0 throughout.
    assert " 40 30 20 10 0 0 0 0 " in " ".join(texts)


def test_the_median_figure_has_no_cut_offs(tmp_path) -> None:
    texts = draw(splits_of(cohorts()), MEDIAN, tmp_path / "curves.svg")
    assert not any("to <" in text for text in texts)
    median = patients(60)["score.til"].median()
    assert f"≥ {median:.4g}" in texts


def test_each_score_and_each_endpoint_has_a_row(tmp_path) -> None:
    splits = splits_of(cohorts())
    more = splits + make_splits(cohorts(), "distant", ENDPOINT, ROLES, ALL, 0.95)
    for kind in (CUTOFFS, MEDIAN):
        texts = draw(more, kind, tmp_path / f"{kind}.svg")
        assert len([text for text in texts if text == "at risk"]) == 2 * 2 * 2
        assert {"distant", "overall-survival"} <= set(texts)


@pytest.mark.parametrize("kind", [CUTOFFS, MEDIAN])
def test_cohorts_with_no_one_patient_or_no_event_are_drawn_with_the_reason(kind, tmp_path) -> None:
    for name, rows in {
        "nobody": patients(10)[:0],
        "one": patients(1),
        "censored": patients(20).assign(event=0),
        "at once": patients(20).assign(event=1, time=2.0),
        "at zero": patients(20).assign(event=1, time=0.0),
    }.items():
        texts = draw(splits_of(rows), kind, tmp_path / f"{name}.svg")
        assert any(text.startswith("log-rank undefined: ") for text in texts)
        assert not any("nan" in text for text in texts)


def test_a_figure_shows_its_data(tmp_path) -> None:
    rows = cohorts()
    turned = rows.assign(time=rows["time"].to_numpy()[::-1])
    for name, table in (("a", rows), ("b", turned)):
        draw(splits_of(table), CUTOFFS, tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_the_words_of_a_test_name_its_strata_and_small_p_values() -> None:
    splits = splits_of(patients(300), strata=["grade"])
    words = log_rank_words(splits[0])
    assert words.startswith("log-rank within grade p < 0.001, trend p < 0.001")
