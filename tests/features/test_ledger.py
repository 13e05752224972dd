"""What is lost after admission is named once, at the stage where it was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slidestudy.errors import StudyError
from slidestudy.features.ledger import late_losses
from slidestudy.features.store import write_features
from slidestudy.files import write_json


def record(slide: str, code: str = "") -> dict[str, Any]:
    reason = {"code": code, "message": f"is {code}"} if code else None
    status = "excluded" if code else "admitted"
    return {"slide_id": slide, "patient_id": f"p-{slide}", "cohort": "a", "status": status, "reason": reason}


def tissue(folder: Path, slide: str, code: str = "") -> Path:
    write_json(folder / "tissue" / f"{slide}.json", record(slide, code))
    return folder / "tissue" / f"{slide}.json"


def store(folder: Path, slide: str, code: str = "", encoder: str = "hand") -> Path:
    path = folder / encoder / f"{slide}.zarr"
    count = 0 if code else 2
    features, coords = np.zeros((count, 3), np.float32), np.zeros((count, 2), np.int32)
    attributes = {**record(slide, code), "encoder": {"name": encoder}, "recipe": "r"}
    write_features(path, features, coords, np.ones(count, np.float32), np.ones(count, bool), attributes)
    return path


def labels(**targets: float | None) -> pd.DataFrame:
    rows = [(slide, f"p-{slide}", "a", "c1", target) for slide, target in targets.items()]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "cohort", "center", "target"])


TIL = {"task": "regression", "columns": ["target"], "target": "tils"}
MODELS = {"til": TIL, "mucin": TIL}
ADMITTED = pd.DataFrame({"slide_id": ["s1", "s2", "s3"]})


def brief(rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(row["slide_id"], row["stage"], row["code"]) for row in rows]


def test_nothing_lost_gives_no_row(tmp_path: Path) -> None:
    rows = late_losses([tissue(tmp_path, "s1")], [store(tmp_path, "s1")], ADMITTED, {"til": labels(s1=3.0)}, MODELS)
    assert rows == []


def test_a_slide_without_tissue_is_lost_at_that_stage_only(tmp_path: Path) -> None:
    stores = [store(tmp_path, "s1", "no_tissue", encoder) for encoder in ("hand", "other")]
    rows = late_losses([tissue(tmp_path, "s1", "no_tissue")], stores, ADMITTED, {}, {})
    assert rows == [
        {
            "cohort": "a",
            "slide_id": "s1",
            "patient_id": "p-s1",
            "stage": "tissue",
            "code": "no_tissue",
            "message": "is no_tissue",
        }
    ]


def test_a_slide_lost_at_the_features_names_the_encoder(tmp_path: Path) -> None:
    stores = [store(tmp_path, "s1", "too_few_tiles"), store(tmp_path, "s1", encoder="other")]
    rows = late_losses([tissue(tmp_path, "s1")], stores, ADMITTED, {}, {})
    assert brief(rows) == [("s1", "features:hand", "too_few_tiles")]


def test_a_blank_label_of_an_admitted_slide_is_lost_for_that_model_only() -> None:
    tables = {
        "til": labels(s1=None, s2=5.0, s9=None),
        "mucin": labels(s1=1.0, s3=float("nan")),
    }
    rows = late_losses([], [], ADMITTED, tables, MODELS)
    assert brief(rows) == [("s1", "labels:til", "label_missing"), ("s3", "labels:mucin", "label_missing")]
    assert all(row["patient_id"] == f"p-{row['slide_id']}" for row in rows)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "s1.zarr").mkdir()
    with pytest.raises(StudyError, match=r"s1\.zarr"):
        late_losses([], [tmp_path / "s1.zarr"], ADMITTED, {}, {})


def test_of_several_targets_one_is_enough_and_survival_needs_time_and_event() -> None:
    core = labels(s1=0, s2=0, s3=0).drop(columns="target")
    tables = {
        "genes": core.assign(a=[1.0, np.nan, np.nan], b=[np.nan, 2.0, np.nan]),
        "risk": core.assign(time=[1.0, 2.0, np.nan], event=[1, np.nan, 0]),
        "published": core.assign(target=np.nan),
    }
    models = {
        "genes": {"task": "multi-regression", "columns": ["a", "b"], "target": ["a", "b"]},
        "risk": {"task": "survival-cox", "columns": ["time", "event"], "target": ["years", "dead"]},
        "published": {"task": "regression", "columns": ["target"], "target": None},
    }
    rows = late_losses([], [], ADMITTED, tables, models)
    assert [(slide, stage) for slide, stage, _ in brief(rows)] == [
        ("s3", "labels:genes"),
        ("s2", "labels:risk"),
        ("s3", "labels:risk"),
    ]
