"""Slides that several test modules of this folder segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.damage import spoil_tile
from tests.tissue.pictures import overview
from tests.tissue.stage import segment, slide

from slidestudy.demo.study import generate_study
from slidestudy.tissue.segmentation import Segmentation


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_study(folder, seed=7, scale=0.5, patients={"north": 2, "south": 1, "west": 1}, workers=1)
    return folder


@pytest.fixture(scope="session")
def inked(study: Path) -> Segmentation:
    """The slide of the south cohort, which bears black pen."""
    return segment(study / "slides/south/S01-1.tif", 0.4)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Tissue all over 2048 x 2048 px; one tile of 256 px cannot be decoded."""
    tissue = overview(np.ones((256, 256), bool))
    path = slide(tmp_path, tissue, enlarged=8)
    return spoil_tile(path, 9)
