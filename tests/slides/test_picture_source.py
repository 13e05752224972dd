"""Flat PNG and JPEG pictures as slides of one level."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slidestudy.errors import Reason
from slidestudy.slides import picture_source
from slidestudy.slides.levels import Flaw
from slidestudy.slides.openslide_source import on_white
from slidestudy.slides.picture_source import PictureSource
from slidestudy.slides.reader import Slide
from slidestudy.slides.tiff_pages import NotReadableError
from tests.slides.builders import RGB, all_tiles


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_a_png_has_its_own_pixels(tmp_path: Path, textured: RGB) -> None:
    with Slide(save(tmp_path / "x.png", Image.fromarray(textured))) as slide:
        assert (slide.kind, slide.vendor, slide.size, slide.indirect) == ("picture", "png", (900, 700), "")
        np.testing.assert_array_equal(slide.read(0, 0, 0, 900, 700), textured)
        tiles, readable, absent = all_tiles(slide, 128, 2)
    assert readable.all()
    np.testing.assert_array_equal(tiles[9], textured[128:256, 128:256])
    assert absent[7] == pytest.approx(1 - 4 / 128)
    assert (tiles[7][:, 4:] == 255).all()


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
def test_a_jpeg_has_the_pixels_that_pillow_gives(tmp_path: Path, textured: RGB, options: dict[str, Any]) -> None:
    path = save(tmp_path / "x.jpg", Image.fromarray(textured), quality=85, **options)
    with Slide(path) as slide:
        assert (slide.vendor, slide.level_sizes) == ("jpeg", [(900, 700)])
        np.testing.assert_array_equal(slide.read(0, 0, 0, 900, 700), np.asarray(Image.open(path)))


def test_a_palette_is_looked_up(tmp_path: Path, textured: RGB) -> None:
    image = Image.fromarray(textured).quantize(32)
    with Slide(save(tmp_path / "x.png", image)) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 900, 700), np.asarray(image.convert("RGB")))


def test_transparent_pixels_are_white_and_absent(tmp_path: Path, textured: RGB) -> None:
    alpha = np.full(textured.shape[:2], 255, np.uint8)
    alpha[:100, :128] = 0
    rgba = Image.fromarray(np.dstack([textured, alpha]))
    with Slide(save(tmp_path / "x.png", rgba)) as slide:
        tiles, readable, absent = all_tiles(slide, 128)
    assert readable.all()
    assert (tiles[0][:100] == 255).all()
    np.testing.assert_array_equal(tiles[0][100:], textured[100:128, :128])
    assert absent[:2].tolist() == [pytest.approx(100 / 128), 0]


def test_a_transparent_colour_of_a_palette_is_absent(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 1]], np.uint8), 4, 0)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    with Slide(save(tmp_path / "x.png", image, transparency=1)) as slide:
        assert slide.read(0, 0, 0, 2, 1).tolist() == [[[10, 20, 30], [255, 255, 255]]]
        assert all_tiles(slide, 4)[2][0] == 1 - 4 / 16


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_pixels_are_laid_onto_white_by_their_transparency(height: int, width: int, seed: int) -> None:
    rgba = np.random.default_rng(seed).integers(0, 256, (height, width, 4)).astype(np.uint8)
    rgba[::3, :, 3] = 0
    rgba[1::3, :, 3] = 255
    chunk = on_white(rgba)
    weight = rgba[..., 3:] / 255
    assert chunk.pixels is not None
    assert np.abs(chunk.pixels - (rgba[..., :3] * weight + 255 * (1 - weight))).max() <= 0.51
    np.testing.assert_array_equal(np.asarray(chunk.flaws) == Flaw.ABSENT, rgba[..., 3] == 0)


def test_a_picture_without_transparency_has_no_flaw() -> None:
    assert on_white(np.full((3, 3, 4), 255, np.uint8)).flaws is Flaw.NONE


def test_the_icc_profile_is_handed_over(tmp_path: Path, textured: RGB) -> None:
    with Slide(save(tmp_path / "x.png", Image.fromarray(textured), icc_profile=b"a profile")) as slide:
        assert slide.icc_profile == b"a profile"


# Refusals


def refusal(path: Path) -> NotReadableError:
    with pytest.raises(NotReadableError) as caught:
        PictureSource(path)
    return caught.value


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("LA", "png"), ("1", "png"), ("I;16", "png"), ("L", "jpg"), ("CMYK", "jpg")]
)
def test_pictures_that_are_not_rgb_are_no_bright_field(tmp_path: Path, mode: str, suffix: str) -> None:
    error = refusal(save(tmp_path / f"x.{suffix}", Image.new(mode, (30, 20))))
    assert error.reason is Reason.NOT_BRIGHTFIELD
    assert mode in str(error)


@pytest.mark.parametrize("limit", [599, 100])
def test_pictures_that_need_too_much_memory_are_to_be_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    path = save(tmp_path / "x.png", Image.new("RGB", (30, 20)))
    monkeypatch.setattr(picture_source, "MAX_PIXELS", 600)
    PictureSource(path)
    monkeypatch.setattr(picture_source, "MAX_PIXELS", limit)
    # Pillow's own limit warns first, and at twice as many pixels refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = refusal(path)
    assert "convert it to a tiled TIFF" in str(error)
    assert error.reason is Reason.UNREADABLE


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("part", [0.01, 0.2, 0.9])
def test_a_picture_that_was_cut_short_is_damaged(tmp_path: Path, textured: RGB, suffix: str, part: float) -> None:
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(textured))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    error = refusal(path)
    assert error.reason is Reason.UNREADABLE
    assert str(error)


def test_a_jpeg_damaged_inside_is_not_filled_with_grey(tmp_path: Path, textured: RGB) -> None:
    path = save(tmp_path / "x.jpg", Image.fromarray(textured))
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + b"\xff\xd9" * ((len(content) - half) // 2))
    assert np.asarray(Image.open(path)).shape == (700, 900, 3), "Pillow makes pixels of it"
    assert refusal(path).damaged


def test_a_png_damaged_inside_is_refused(tmp_path: Path, textured: RGB) -> None:
    path = save(tmp_path / "x.png", Image.fromarray(textured))
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(50) + content[half + 50 :])
    assert refusal(path).damaged


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_other_files_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    refusal(tmp_path / "x")


def test_a_missing_file_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PictureSource(tmp_path / "x.png")
