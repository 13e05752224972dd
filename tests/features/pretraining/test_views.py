"""Views of tiles: their shape and range, what stays and what changes, and that the seed decides them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.pretraining.toys import SIZE, toy_tiles
from torch import Tensor

from slidestudy.features.pretraining import views as module
from slidestudy.features.pretraining.views import Views


@pytest.fixture
def pixels() -> Tensor:
    return torch.from_numpy(toy_tiles(2, 4).tiles).permute(0, 3, 1, 2)


@settings(max_examples=25, deadline=None)
@given(side=st.integers(16, 48), low=st.floats(0.05, 1.0), seed=st.integers(0, 1000), strength=st.floats(0, 1))
def test_views_are_pictures_of_the_size_asked_for(side: int, low: float, seed: int, strength: float) -> None:
    torch.manual_seed(seed)
    made = Views(side, (low, 1.0), strength)(torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8))
    assert made.shape == (3, 3, side, side)
    assert made.dtype == torch.float32
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_the_seed_decides_the_views(pixels: Tensor) -> None:
    def make(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return Views(SIZE, (0.3, 1.0))(pixels)

    assert torch.equal(make(1), make(1))
    assert not torch.equal(make(1), make(2))


def test_views_leave_the_tiles_as_they_are(pixels: Tensor) -> None:
    before = pixels.clone()
    Views(SIZE, (0.3, 1.0))(pixels)
    assert torch.equal(pixels, before)


def test_without_colour_a_view_of_the_whole_tile_is_one_of_its_eight_orientations(
    pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASPECT", (1.0, 1.0))
    torch.manual_seed(0)
    for tile, view in zip(pixels, Views(SIZE, (1.0, 1.0), colour=0)(pixels), strict=True):
        turned = [torch.rot90(t, k, (1, 2)).float() / 255 for t in (tile, tile.flip(2)) for k in range(4)]
        assert any(torch.allclose(view, other) for other in turned)


def test_all_orientations_occur() -> None:
    torch.manual_seed(0)
    square = torch.arange(9, dtype=torch.uint8).view(1, 3, 3)
    assert len({tuple(module._turned(square).flatten().tolist()) for _ in range(200)}) == 8


def test_no_change_of_stain_gives_the_picture_back(pixels: Tensor) -> None:
    pictures = (pixels.float() / 255).clamp(min=1 / 255)
    assert torch.allclose(module._stained(pictures, 0.0), pictures, atol=1e-4)
    assert torch.allclose(module._toned(pictures, 0.0), pictures, atol=1e-5)


def test_each_picture_of_a_batch_is_stained_and_toned_on_its_own() -> None:
    same = torch.full((16, 3, 4, 4), 0.6)
    torch.manual_seed(0)
    for change in (module._stained, module._toned):
        colours = change(same, 1.0)[:, :, 0, 0]
        assert len({tuple(round(v, 4) for v in colour.tolist()) for colour in colours}) > 12


def test_some_views_are_grey_and_most_are_not(pixels: Tensor) -> None:
    torch.manual_seed(0)
    made = Views(SIZE, (0.5, 1.0))(pixels.repeat(50, 1, 1, 1))
    grey = (made.amax(1) - made.amin(1)).amax((1, 2)) < 1e-3
    assert 0.05 < float(grey.float().mean()) < 0.16


def test_blur_takes_detail_from_some_views_only() -> None:
    torch.manual_seed(0)
    noise = torch.rand(200, 3, 16, 16)
    blurred = module._blurred(noise.clone())
    changed = (blurred != noise).flatten(1).any(1)
    assert 0.1 < float(changed.float().mean()) < 0.35
    assert float(blurred[changed].std((2, 3)).mean()) < float(noise[changed].std((2, 3)).mean())
