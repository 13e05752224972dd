"""Patches that a person chose, and answers in the files of X2X."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from slidestudy.errors import StudyError
from slidestudy.explanations.answering import read_answers
from slidestudy.explanations.answers import Answer, AnswerStatus, Conclusion
from slidestudy.explanations.imported import import_patches, read_patch_set
from slidestudy.explanations.patches import read_patch_folder, read_patches
from slidestudy.explanations.x2x import COLUMNS, results_files, results_table

ROSTER = {"S1": ("P1", "south")}


def save_patch(folder: Path, name: str, logits: Any, image: bool = True, **metadata: Any) -> Path:
    """Saves a patch as X2X does."""
    place = folder / name
    place.mkdir(parents=True)
    if image:
        cv2.imwrite(str(place / "rgb.jpeg"), np.full((8, 8, 3), 90, np.uint8))
        cv2.imwrite(str(place / "macenko.jpeg"), np.full((8, 8, 3), 120, np.uint8))
    found = {"raw_logits": {"label_0": logits}, **metadata}
    (place / "metadata.json").write_text(json.dumps(found), encoding="utf-8")
    return place


@pytest.fixture
def chosen(tmp_path: Path) -> Path:
    folder = tmp_path / "chosen"
    save_patch(folder, "S1/100-200-1.1", [0.5], attention_logits={"label_0": [0.25]}, probabilities={"label_0": 0.6})
    save_patch(folder, "S1/300-200-1.1", -2.5, attention_logits={"label_0": None})
    save_patch(folder, "elsewhere/0-0-0.5", 1.5)
    return folder


def write_results(folder: Path, rows: list[list[Any]], columns: tuple[str, ...] = ("image_path", "conclusion")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(columns)).to_csv(folder / "results.csv", index=False)
    return folder / "results.csv"


def test_a_folder_of_x2x_is_read_with_its_logits(chosen: Path) -> None:
    table = read_patch_set(chosen, ROSTER)
    columns = ["patch_id", "slide_id", "patient_id", "cohort", "x", "y", "mpp", "logit"]
    assert table[columns].to_numpy().tolist() == [
        ["S1/100-200-1.1", "S1", "P1", "south", 100, 200, 1.1, 0.5],
        ["S1/300-200-1.1", "S1", "P1", "south", 300, 200, 1.1, -2.5],
        ["elsewhere/0-0-0.5", "elsewhere", "elsewhere", "", 0, 0, 0.5, 1.5],
    ]
    assert table["score"].tolist() == pytest.approx([0.6, 1 / (1 + np.exp(2.5)), 1 / (1 + np.exp(-1.5))])
    assert table["attention_logit"][0] == 0.25
    assert table["attention_logit"][1:].isna().all()


def test_imported_patches_are_a_patch_folder_with_all_their_images(chosen: Path, tmp_path: Path) -> None:
    import_patches(tmp_path / "patches", chosen, ROSTER)
    table, card = read_patch_folder(tmp_path / "patches")
    assert len(list(read_patches(tmp_path / "patches", table))) == card["patches"] == 3
    assert (tmp_path / "patches" / "S1" / "100-200-1.1" / "macenko.jpeg").is_file()
    cv2.imwrite(str(chosen / "S1" / "100-200-1.1" / "rgb.jpeg"), np.full((8, 8, 3), 10, np.uint8))
    import_patches(tmp_path / "again", chosen, ROSTER)
    assert read_patch_folder(tmp_path / "again")[1]["digest"] != card["digest"]


def test_all_patches_that_cannot_be_used_are_told(chosen: Path) -> None:
    save_patch(chosen, "S2/1-1-0.5", 1.0, image=False)
    save_patch(chosen, "S2/2-1-0.5", "high")
    save_patch(chosen, "S2/3-1-0.5", None)
    with pytest.raises(StudyError) as caught:
        read_patch_set(chosen, ROSTER)
    assert len(caught.value.problems) == 3
    assert "no rgb.jpeg" in str(caught.value)


def test_a_folder_without_patches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no patches"):
        read_patch_set(tmp_path, ROSTER)


def test_a_patch_that_stands_twice_is_told(chosen: Path) -> None:
    save_patch(chosen, "copy/S1/100-200-1.1", 0.5)
    with pytest.raises(StudyError, match=r"S1/100-200-1.1 stands twice"):
        read_patch_set(chosen, ROSTER)


def test_the_answers_of_a_results_file_come_with_the_patches(chosen: Path, tmp_path: Path) -> None:
    rows = [
        ["somewhere/patches/S1/100-200-1.1/macenko.jpeg", "VERY HIGH", "line one\nCONCLUSION=VERY HIGH"],
        ["C:\\patches\\S1\\300-200-1.1\\macenko.jpeg", "HIGH or LOW", "a hedge"],
    ]
    write_results(chosen / "their explanation" / "20250101", rows, ("image_path", "conclusion", "prediction_of_score"))
    import_patches(tmp_path / "patches", chosen, ROSTER)
    found = read_answers(tmp_path / "patches" / "answers" / "imported.their-explanation.jsonl")
    assert [(a.status.value, a.conclusion) for a in found.answers] == [
        ("answered", Conclusion.VERY_HIGH), ("unparsed", None), ("failed", None),
    ]  # fmt: skip
    assert found.answers[0].raw.startswith("line one\n")
    assert (found.reader, found.is_vlm) == ("results.csv", True)


def test_results_of_equal_names_are_kept_apart(tmp_path: Path) -> None:
    for place in ("a/x/1", "a/x/2", "."):
        write_results(tmp_path / place, [["S1/1-1-0.5/rgb.jpeg", "VERY LOW"]])
    assert list(results_files(tmp_path)) == ["imported.x", "imported.x-2", "imported.answers"]


@pytest.mark.parametrize(
    ("columns", "row", "said"),
    [
        (("image_path", "answer"), ["S1/100-200-1.1/rgb.jpeg", "LOW"], "has no column conclusion"),
        (("image_path", "conclusion"), ["S1/9-9-1.1/rgb.jpeg", "LOW"], "is no patch of the set"),
    ],
)
def test_a_results_file_that_does_not_fit_is_told(chosen: Path, tmp_path: Path, columns, row, said) -> None:
    write_results(chosen, [row], columns)
    with pytest.raises(StudyError, match=said):
        import_patches(tmp_path / "patches", chosen, ROSTER)


def test_what_is_written_for_x2x_reads_back(chosen: Path, tmp_path: Path) -> None:
    sample = read_patch_set(chosen, ROSTER)
    answers = [
        Answer(sample["patch_id"][0], AnswerStatus.ANSWERED, Conclusion.LOW_NEAR_BOUNDARY, 'so, "it"\nis'),
        Answer(sample["patch_id"][1], AnswerStatus.ABSTAINED, None, "?"),
        Answer(sample["patch_id"][2], AnswerStatus.FAILED, None, "no reply"),
    ]
    table = results_table(sample, answers, {sample["patch_id"][0]: "pink"}, 0.0)
    assert list(table.columns) == COLUMNS
    assert table["conclusion"].tolist() == ["LOW NEAR BOUNDARY", "ABSTAIN", "FAILED"]
    assert table["binary_logit"].tolist() == [1, 0, 1]
    table.to_csv(chosen / "results.csv", index=False)
    import_patches(tmp_path / "patches", chosen, ROSTER)
    found = read_answers(tmp_path / "patches" / "answers" / "imported.answers.jsonl").answers
    assert found[0] == answers[0]
    assert [a.status for a in found] == [AnswerStatus.ANSWERED, AnswerStatus.ABSTAINED, AnswerStatus.UNPARSED]
