"""Slides of which only features are imported: admitted with a warning, and null where nobody looked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slidestudy.slides.inspection import NO_FILE, UNSEEN, inspect_slide

OPTIONS = {"regions": 4, "mpp_tolerance": 0.05, "max_unreadable": 0.05}


def inspect(path: str | None, mpp: float | None = None) -> dict[str, Any]:
    return inspect_slide(
        {"slide_id": "s1", "patient_id": "p1", "cohort": "c1", "path": path, "mpp": mpp, "roi": None}, OPTIONS
    )


def test_a_slide_without_a_file_is_admitted_with_a_warning() -> None:
    record = inspect(None)
    assert (record["status"], record["reason"], record["path"]) == ("admitted", None, None)
    assert [warning["code"] for warning in record["warnings"]] == [NO_FILE]
    assert {key: record[key] for key in (*UNSEEN, "mpp")} == dict.fromkeys((*UNSEEN, "mpp"))


def test_its_resolution_is_the_tables() -> None:
    mpp = inspect(None, 0.25)["mpp"]
    assert (mpp["value"], mpp["source"]) == (0.25, "table")


def test_an_implausible_resolution_excludes_it() -> None:
    record = inspect(None, 250.0)
    assert (record["status"], record["reason"]["code"]) == ("excluded", "mpp_implausible")


def test_its_record_has_the_fields_of_a_slide_that_was_seen(
    tmp_path: Path, write_tiff: Callable[..., Path], picture: npt.NDArray[np.uint8]
) -> None:
    seen = inspect(str(write_tiff(tmp_path / "s.tif", picture)))
    assert seen["status"] == "admitted", seen["reason"]
    assert seen.keys() - {"regions_decoded"} == inspect(None).keys()
    assert json.loads(json.dumps(inspect(None, 0.5))) == inspect(None, 0.5)
