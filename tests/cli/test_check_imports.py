"""`slidestudy check` on a study of imported features without slides."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from tests.cli.conftest import Command
from tests.drafts import Draft
from tests.features.stores import grid

SLIDES = ("A1", "A1b", "A2", "A3", "A4", "B1")


@pytest.fixture
def without_slides(draft: Draft) -> Draft:
    """The small study without a slide, and a file of features for each."""
    header, *rows = (line.split("\t") for line in draft.slides)
    draft.slides = ["\t".join(header), *("\t".join([*row[:3], "", "0.25"]) for row in rows)]
    draft.config["encoders"] = {"stain-texture": {"dim": 6}}
    draft.config["features"] = {"import": {"stain-texture": {"files": "{slide}.h5", "unit": "px"}}}
    draft.config["explanations"] = {"models": []}
    for slide in SLIDES:
        with h5py.File(draft.folder / f"{slide}.h5", "w") as file:
            file["features"] = np.ones((12, 6), np.float32)
            file["coords"] = grid()
    return draft


def test_a_study_without_slides_can_run(run: Command, without_slides: Draft) -> None:
    without_slides.load()
    ended = run("check", without_slides.source, "--workers", "1")
    assert ended.code == 0, ended.err
    assert "The study can run" in ended.out
    assert "no_slide_file" in ended.out
    assert "Cost of the features" not in ended.out


def test_missing_files_are_listed_and_stop_nothing(run: Command, without_slides: Draft) -> None:
    (without_slides.folder / "A1b.h5").unlink()
    without_slides.load()
    ended = run("check", without_slides.source, "--workers", "1")
    assert (ended.code, "Features that are missing: 1" in ended.out) == (0, True)
    assert "A1b.h5 does not exist" in ended.out


def test_a_wrong_unit_is_told_before_anything_runs(run: Command, without_slides: Draft) -> None:
    without_slides.config["features"]["import"]["stain-texture"]["unit"] = "um"
    without_slides.load()
    ended = run("check", without_slides.source, "--workers", "1")
    assert ended.code == 1
    assert "features.import.stain-texture: none of the 3 files tried can be used" in ended.err
    assert "check features.import.stain-texture.unit" in ended.err
    assert "Traceback" not in ended.err
