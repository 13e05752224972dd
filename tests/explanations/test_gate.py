"""The reader's test on known patches: real annotated ones, generated ones, and its verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.explanations.known_patches import write_gate
from tests.explanations.made_answers import HB, LB, VH, VL, A, an_answer

from slidestudy.demo.gate import generate_gate
from slidestudy.errors import StudyError
from slidestudy.explanations.gate import QUESTION, ask_gate, gate_digest, judge_gate, read_gate
from slidestudy.explanations.readers.morphometric import MorphometryReader
from slidestudy.explanations.reading import as_reading

SETTINGS = {"smallest_auroc": 0.7, "bootstrap": 500, "confidence": 0.95, "seed": 1}
CELLS = {"consep": ("nuclei.csv", 0.275), "crchisto": ("points.csv", 0.55)}


def verdict(values: list, rich: list[int]) -> dict:
    """The verdict on some answers, each patch a patient of its own."""
    ids = [str(i) for i in range(len(rich))]
    answers = [an_answer(patch, value) for patch, value in zip(ids, values, strict=True)]
    table = pd.DataFrame({"rich": rich, "patient": ids})
    return judge_gate(as_reading("gate", answers, ids, "scripted", True), table, SETTINGS)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    generate_gate(folder, 7)
    return folder


def test_a_reader_that_tells_rich_from_poor_passes() -> None:
    found = verdict([VH, HB, VH, LB, VL, VL] * 3, [1, 1, 1, 0, 0, 0] * 3)
    assert (found["result"], found["auroc"], found["n"], found["reason"]) == ("passed", 1, 18, "")
    assert (found["reader"], found["is_vlm"], found["question"]) == ("scripted", True, QUESTION.text)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([VL, LB, VL, HB, VH, VH] * 3, "below 0.7"),
        ([A] * 18, "below 0.7"),
    ],
)
def test_a_reader_that_does_not_fails_with_the_reason(values, reason) -> None:
    found = verdict(values, [1, 1, 1, 0, 0, 0] * 3)
    assert found["result"] == "failed"
    assert reason in found["reason"]


def test_a_good_score_on_too_few_patches_does_not_pass() -> None:
    assert verdict([VH, VL], [1, 0])["result"] == "failed"
    found = verdict([VH, LB, LB, VL, HB], [1, 1, 0, 0, 0])
    assert found["result"] == "failed"
    assert "does not lie above 0.5" in found["reason"] or "below" in found["reason"]


def test_generated_patches_are_told_apart_by_the_morphometry_reader(generated: Path) -> None:
    table, patches = read_gate(generated / "gate.tsv")
    assert table["rich"].value_counts().to_dict() == {0: 8, 1: 8}
    found = judge_gate(ask_gate(MorphometryReader(), patches), table, SETTINGS)
    assert found["result"] == "passed"
    assert found["n_patients"] == 8


def test_generated_patches_are_the_same_each_time_and_not_made_twice(generated: Path, tmp_path: Path) -> None:
    generate_gate(tmp_path, 7)
    names = sorted(path.name for path in generated.iterdir())
    assert len(names) == 18
    assert all((tmp_path / name).read_bytes() == (generated / name).read_bytes() for name in names)
    before = (generated / "gate.tsv").stat().st_mtime_ns
    generate_gate(generated, 7)
    assert (generated / "gate.tsv").stat().st_mtime_ns == before


@pytest.mark.shared
@pytest.mark.parametrize("name", CELLS)
def test_annotated_patches_are_told_apart_by_the_morphometry_reader(shared: Path, tmp_path: Path, name: str) -> None:
    file, mpp = CELLS[name]
    cells = shared / "cells" / name
    nuclei = pd.read_csv(cells / file)
    table, patches = read_gate(write_gate(tmp_path, cells / "images", nuclei[nuclei["class"] != "any"], mpp))
    assert len(table) >= 40
    found = judge_gate(ask_gate(MorphometryReader(), patches), table, SETTINGS)
    assert found["result"] == "passed"
    assert found["auroc"] > 0.8


def test_images_of_the_same_patches_have_the_same_digest(generated: Path, tmp_path: Path) -> None:
    table, _ = read_gate(generated / "gate.tsv")
    first = gate_digest(generated / "gate.tsv", table)
    generate_gate(tmp_path, 7)
    assert gate_digest(tmp_path / "gate.tsv", table) == first
    assert gate_digest(tmp_path / "gate.tsv", table.assign(rich=1 - table["rich"])) != first


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([["a.png", 0.5, 1], ["b.png", 0.5, 0]], "line 2, column image"),
        ([["a.png", 0, 1]], "'mpp' is '0"),
        ([["a.png", 0.5, 2]], "which is none of 0, 1"),
    ],
)
def test_a_table_of_known_patches_that_is_wrong_is_told(tmp_path: Path, rows, said) -> None:
    pd.DataFrame(rows, columns=["image", "mpp", "rich"]).to_csv(tmp_path / "gate.tsv", sep="\t", index=False)
    with pytest.raises(StudyError) as caught:
        read_gate(tmp_path / "gate.tsv")
    assert said in str(caught.value)


def test_patches_of_one_class_test_nothing(generated: Path, tmp_path: Path) -> None:
    table = pd.read_csv(generated / "gate.tsv", sep="\t")
    one = table[table["rich"] == 1].assign(image=[str(generated / name) for name in table["image"][table["rich"] == 1]])
    one.to_csv(tmp_path / "gate.tsv", sep="\t", index=False)
    with pytest.raises(StudyError, match="all patches are of one class"):
        read_gate(tmp_path / "gate.tsv")
    assert np.isfinite(one["mpp"]).all()
