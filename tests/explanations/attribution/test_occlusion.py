"""Occlusion: what falls when a square is blurred away, for encoders without gradients."""

from __future__ import annotations

import numpy as np
import pytest
from tests.explanations.attribution.doubles import CORNER, SIZE, Reads, bright_encoder, planted, scorer_of

from slidestudy.explanations.attribution.occlusion import occlusion_maps, spread_squares, square_starts
from slidestudy.features.encoders import StainTextureEncoder
from slidestudy.features.stain_texture import feature_names
from slidestudy.models.packing import MilOutput, PackedBags


class ReadsNuclei(Reads):
    """Its output is the share of the patch that is nucleus by the hand-crafted features."""

    def forward(self, packed: PackedBags) -> MilOutput:
        place = feature_names().index("nuclear_fraction")
        return super().forward(PackedBags(packed.features[:, [place]], packed.offsets))


def stained(count: int = 2) -> np.ndarray:
    """Pink patches with one dark purple blob."""
    tiles = np.full((count, SIZE, SIZE, 3), (235, 185, 210), np.uint8)
    tiles += np.random.default_rng(3).integers(0, 8, tiles.shape).astype(np.uint8)
    y, x = np.mgrid[:SIZE, :SIZE]
    centre = (CORNER.start + CORNER.stop) / 2
    tiles[:, (y - centre) ** 2 + (x - centre) ** 2 < 36] = (80, 45, 130)
    return tiles


def test_the_map_of_hand_crafted_features_finds_the_planted_blob():
    encoder, tiles = StainTextureEncoder("stain", 0.5), stained()
    model = ReadsNuclei(1)
    maps = occlusion_maps(scorer_of(encoder, [model], tiles), 0.25, 0.125)
    for row, grid in enumerate(maps.raw["output"]):
        spread = maps.spread(grid)
        y, x = np.unravel_index(spread.argmax(), spread.shape)
        assert CORNER.start <= y < CORNER.stop, row
        assert CORNER.start <= x < CORNER.stop, row
        assert spread[CORNER, CORNER].mean() > 10 * abs(spread[40:, 40:].mean())
    assert maps.method == "occlusion"
    assert "16 px every 8 px" in maps.place


def test_a_fall_is_positive_where_pixels_raise_the_target(monkeypatch):
    scorer = scorer_of(bright_encoder(monkeypatch), [Reads(1)], planted(1))
    maps = occlusion_maps(scorer, 0.25, 0.25)
    spread = maps.spread(maps.raw["output"][0])
    assert spread[CORNER, CORNER].mean() > 0 > maps.spread(maps.raw["attention"][0])[CORNER, CORNER].mean()
    assert spread[CORNER, CORNER].mean() > 5 * np.abs(spread[40:, 40:]).mean()


@pytest.mark.parametrize(("size", "side", "stride"), [(64, 13, 6), (10, 3, 4), (8, 8, 2), (7, 1, 1)])
def test_squares_reach_the_end_and_a_pixel_has_the_mean_of_those_that_cover_it(size, side, stride):
    starts = square_starts(size, side, stride)
    assert starts[0] == 0
    assert starts[-1] + side == size
    grid = np.arange(len(starts) ** 2, dtype=np.float32).reshape(len(starts), -1)
    spread = spread_squares(grid, size, side, starts)
    covering = [i for i, start in enumerate(starts) if start <= size // 2 < start + side]
    expected = np.mean([grid[i, j] for i in covering for j in covering]) if covering else 0
    assert spread[size // 2, size // 2] == pytest.approx(expected)
    assert spread_squares(np.ones_like(grid), size, side, starts).max() == 1
