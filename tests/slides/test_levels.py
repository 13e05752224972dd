"""How levels are cut into chunks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides.levels import Level

levels = st.builds(
    Level,
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    downsample=st.just(1.0),
    chunk_width=st.integers(1, 40),
    chunk_height=st.integers(1, 40),
)


@settings(deadline=None)
@given(levels)
def test_the_chunks_cover_every_pixel_of_a_level_once(level: Level) -> None:
    covered = np.zeros((level.rows * level.chunk_height, level.columns * level.chunk_width), int)
    for index in range(level.columns * level.rows):
        x, y = level.origin(index)
        assert x < level.width
        assert y < level.height
        covered[y : y + level.chunk_height, x : x + level.chunk_width] += 1
    assert (covered == 1).all()
    assert covered.shape[0] >= level.height
    assert covered.shape[1] >= level.width


def test_chunks_are_numbered_row_by_row() -> None:
    level = Level(100, 50, 1.0, 40, 30)
    assert [level.origin(i) for i in range(6)] == [(0, 0), (40, 0), (80, 0), (0, 30), (40, 30), (80, 30)]


def test_a_chunk_of_rgb_has_three_bytes_per_pixel() -> None:
    assert Level(100, 50, 1.0, 40, 30).chunk_bytes == np.zeros((30, 40, 3), np.uint8).nbytes
