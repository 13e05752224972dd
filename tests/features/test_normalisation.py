"""Stain normalisation: what it does to stained tiles, to tiles without stain, and how far it may go."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

from slidestudy.errors import StudyError
from slidestudy.features import normalisation
from slidestudy.features.normalisation import (
    TEMPLATES,
    Normaliser,
    Outcome,
    build_normaliser,
    has_stains,
    mean_colour,
    read_template,
    template_path,
)
from slidestudy.slides.reader import Slide

Tile = npt.NDArray[np.uint8]
METHODS = ["macenko", "reinhard"]
SPEC = {"method": "macenko", "template": "generated-he", "max_shift": 40.0}
HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.30, 0.85, 0.43])


def stained(
    h: float = 1.0, e: float = 0.6, tint: tuple[float, float, float] = (1, 1, 1), side: int = 96, seed: int = 0
) -> Tile:
    """A simulated tile of nuclei on a pink ground, its stains of a given strength and tint."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    nuclei = np.zeros((side, side))
    for cx, cy, radius in zip(*rng.uniform(0, side, (2, 25)), rng.uniform(3, 7, 25), strict=True):
        nuclei = np.maximum(nuclei, np.hypot(x - cx, y - cy) < radius)
    grain = rng.normal(0, 0.08, (2, side, side))
    concentrations = np.stack([h * (0.15 + nuclei + grain[0]), e * (1 - 0.5 * nuclei + grain[1])], axis=-1).clip(0)
    density = concentrations @ np.stack([HAEMATOXYLIN, EOSIN]) * np.array(tint)
    return np.clip(240 * np.exp(-density), 0, 255).round().astype(np.uint8)


def blank(side: int = 96, level: float = 243, seed: int = 0) -> Tile:
    noise = np.random.default_rng(seed).normal(level, 1.5, (side, side, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def with_patch(side: int, patch: Tile) -> Tile:
    tile = blank()
    tile[:side, :side] = patch[:side, :side]
    return tile


@cache
def build(method: str, max_shift: float = 40.0) -> Normaliser:
    made = build_normaliser({**SPEC, "method": method, "max_shift": max_shift})
    assert made is not None
    return made


def stains_of(tile: Tile) -> npt.NDArray[np.float64]:
    """Macenko's stain vectors and the logarithms of their strengths."""
    fitted = NumpyMacenkoNormalizer()
    fitted.fit(tile)
    return np.concatenate([fitted.HERef.ravel(), np.log(fitted.maxCRef)])


def distance(a: Tile, b: Tile, method: str) -> float:
    """How far two tiles differ in what a method makes equal."""
    return difference(a, b) if method == "reinhard" else float(np.linalg.norm(stains_of(a) - stains_of(b)))


def difference(a: Tile, b: Tile) -> float:
    """Distance of two tiles' mean colours, Delta E."""
    return float(np.linalg.norm(mean_colour(a) - mean_colour(b)))


# What it does to tissue


@pytest.mark.parametrize("method", METHODS)
def test_a_tile_normalised_to_itself_hardly_changes(method: str) -> None:
    tile = stained()
    (changed,), outcome = Normaliser(method, tile, "self", 40).apply(tile[None])
    assert outcome.tolist() == [Outcome.NORMALISED]
    assert np.abs(changed.astype(int) - tile).mean() < 6
    assert difference(changed, tile) < 2


@pytest.mark.parametrize("method", METHODS)
def test_two_stainings_of_one_tile_come_close(method: str) -> None:
    pair = np.stack([stained(1.3, 0.5, (1, 0.9, 1.1)), stained(0.8, 0.9, (1.1, 1, 0.9))])
    before = np.abs(pair[0].astype(int) - pair[1]).mean()
    changed, outcome = build(method).apply(pair)
    assert (outcome >= Outcome.NORMALISED).all()
    assert np.abs(changed[0].astype(int) - changed[1]).mean() < 0.7 * before
    assert difference(*changed) < difference(*pair) / 2


@pytest.mark.parametrize("method", METHODS)
def test_tiles_take_on_the_templates_colours(method: str) -> None:
    template = read_template(TEMPLATES / "generated-he.png", method)
    tile = stained(0.8, 0.9, (1.1, 1, 0.9))
    (changed,), _ = build(method).apply(tile[None])
    assert distance(changed, template, method) < distance(tile, template, method) / 2


@pytest.mark.parametrize("method", METHODS)
def test_a_tile_hangs_on_no_other_and_stays_as_it_was_given(method: str) -> None:
    tiles = np.stack([stained(seed=i) for i in range(3)] + [blank()])
    given_tiles, normaliser = tiles.copy(), build(method)
    together, outcomes = normaliser.apply(tiles)
    for i in range(4):
        alone, outcome = normaliser.apply(tiles[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])
        assert outcome[0] == outcomes[i]
    np.testing.assert_array_equal(tiles, given_tiles)
    anew = build_normaliser({**SPEC, "method": method})
    assert anew is not None
    assert anew.apply(tiles)[0].tobytes() == together.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_no_tiles_give_none(method: str) -> None:
    tiles, outcome = build(method).apply(np.zeros((0, 32, 32, 3), np.uint8))
    assert (tiles.shape, outcome.shape) == ((0, 32, 32, 3), (0,))


# Tiles whose stains cannot be told apart

ONE_COLOUR = np.full((96, 96, 3), (180, 90, 150), np.uint8)
DEGENERATE = {
    "white": np.full((96, 96, 3), 255, np.uint8),
    "glass": blank(),
    "black": np.zeros((96, 96, 3), np.uint8),
    "one colour": ONE_COLOUR,
    "grain on one colour": (ONE_COLOUR + np.random.default_rng(0).integers(0, 2, ONE_COLOUR.shape)).astype(np.uint8),
    "one pixel": with_patch(1, stained()),
    "two pixels wide": with_patch(2, stained()),
    "little tissue": with_patch(20, stained()),
    "a grey ramp": np.repeat(np.arange(96, dtype=np.uint8)[:, None, None] + 100, 96, 1).repeat(3, 2),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("method", METHODS)
def test_a_tile_without_two_stains_passes_through_and_says_so(name: str, method: str) -> None:
    tile = DEGENERATE[name]
    assert not has_stains(tile, method)
    tiles, outcome = build(method).apply(np.stack([tile, stained()]))
    np.testing.assert_array_equal(tiles[0], tile)
    assert outcome.tolist() == [Outcome.PASSED_THROUGH, Outcome.NORMALISED]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DEGENERATE)
def test_what_the_methods_cannot_compute_passes_through_even_unsifted(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    normaliser = build(method)
    monkeypatch.setattr(normalisation, "has_stains", lambda tile, method: bool((tile <= 205).all(-1).sum() > 3))
    tile = DEGENERATE[name]
    tiles, outcome = normaliser.apply(tile[None])
    if outcome[0] == Outcome.PASSED_THROUGH:
        np.testing.assert_array_equal(tiles[0], tile)


def test_below_the_least_stain_macenko_would_distort_the_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is a bound: the less tissue in a tile, the further its colours are moved."""
    normaliser = build("macenko", 1000)
    monkeypatch.setattr(normalisation, "MIN_STAINED", 0.0)
    shifts = {}
    for side in (80, 40, 8):
        tile = with_patch(side, stained())
        (changed,), outcome = normaliser.apply(tile[None])
        assert outcome[0] == Outcome.NORMALISED
        shifts[side] = difference(changed[:side, :side], tile[:side, :side])
    assert shifts[8] > 2 * shifts[40]
    assert shifts[8] > 2 * shifts[80]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0, 3), st.sampled_from(METHODS))
def test_any_tile_is_normalised_or_left_alone(seed: int, cells: int, strength: float, method: str) -> None:
    rng = np.random.default_rng(seed)
    mosaic = rng.integers(0, 256, (cells, cells, 3)).repeat(40 // cells + 1, 0).repeat(40 // cells + 1, 1)[:40, :40]
    tile = np.clip(255 - strength * (255 - mosaic), 0, 255).astype(np.uint8)
    (changed,), outcome = build(method).apply(tile[None])
    assert changed.dtype == np.uint8
    if outcome[0] == Outcome.PASSED_THROUGH:
        np.testing.assert_array_equal(changed, tile)
    else:
        assert (difference(changed, tile) > 40) == (outcome[0] == Outcome.FLAGGED)


# The flag


@pytest.mark.parametrize("method", METHODS)
def test_a_tile_that_moves_beyond_the_bound_is_flagged_and_still_normalised(method: str) -> None:
    tile = stained(1.6, 1.2)
    (changed,), _ = build(method, 1000).apply(tile[None])
    shift = difference(changed, tile)
    assert shift > 5
    for bound, outcome in ((shift * 1.01, Outcome.NORMALISED), (shift * 0.99, Outcome.FLAGGED)):
        tiles, found = build(method, bound).apply(tile[None])
        assert found.tolist() == [outcome]
        np.testing.assert_array_equal(tiles[0], changed)


def test_mean_colour_is_in_cielab() -> None:
    """White, black and pure red, whose CIELAB values (D65) are known."""
    for rgb, lab in (((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20))):
        tile = np.full((8, 8, 3), rgb, np.uint8)
        np.testing.assert_allclose(mean_colour(tile), lab, atol=0.2)


# Templates and recipes


def test_no_normaliser_is_made_for_method_none() -> None:
    assert build_normaliser({**SPEC, "method": "none", "template": "there is none"}) is None


def test_the_recipe_says_what_decides_the_colours_and_no_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    Image.fromarray(stained()).save(path)
    mine, again = (build_normaliser({**SPEC, "template": str(path), "max_shift": bound}) for bound in (40, 10))
    assert mine is not None
    assert again is not None
    assert mine.recipe == again.recipe, "the bound of the flags changes no pixel"
    assert (mine.recipe["template"], mine.recipe["method"]) == ("mine", "macenko")
    assert str(tmp_path) not in str(mine.recipe)
    recipes = [build(method).recipe for method in METHODS] + [mine.recipe]
    assert len({str(recipe) for recipe in recipes}) == 3
    Image.fromarray(stained(seed=1)).save(path)
    changed = build_normaliser({**SPEC, "template": str(path)})
    assert changed is not None
    assert changed.recipe["template_digest"] != mine.recipe["template_digest"]


def test_every_named_template_can_be_used_and_its_origin_is_told() -> None:
    names = [path.stem for path in TEMPLATES.glob("*.png")]
    assert "generated-he" in names
    readme = (TEMPLATES / "README.md").read_text(encoding="utf-8")
    for name in names:
        assert all(has_stains(read_template(template_path(name), method), method) for method in METHODS)
        assert f"`{name}`" in readme


@pytest.mark.parametrize("template", ["skin", "missing/generated-he.png", "/absent.png", ""])
def test_a_missing_template_is_named_with_those_that_there_are(template: str) -> None:
    with pytest.raises(StudyError, match="no template") as caught:
        build_normaliser({**SPEC, "template": template})
    assert "generated-he" in caught.value.problems[0].remedy


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_template_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.png"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="cannot be read as a picture"):
        build_normaliser({**SPEC, "template": str(path)})


def test_a_template_without_stain_is_refused(tmp_path: Path) -> None:
    Image.fromarray(blank()).save(tmp_path / "t.png")
    with pytest.raises(StudyError, match="too little stain"):
        build_normaliser({**SPEC, "template": str(tmp_path / "t.png")})


# Real tissue


@pytest.mark.shared
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_real_tiles_take_on_the_templates_colours_or_stay(shared: Path, name: str, method: str) -> None:
    with Slide(shared / "slides" / name) as slide:
        grid = [(x, y) for y in range(0, slide.size[1] - 256, 640) for x in range(0, slide.size[0] - 256, 640)]
        batches = list(slide.tiles(np.array(grid, np.int32), 256, 256))
        tiles = np.concatenate([batch.tiles for batch in batches])
    normaliser = build(method)
    changed, outcome = normaliser.apply(tiles)
    stains = np.array([has_stains(tile, method) for tile in tiles])
    np.testing.assert_array_equal(outcome > Outcome.PASSED_THROUGH, stains)
    np.testing.assert_array_equal(changed[~stains], tiles[~stains])
    assert stains.sum() > 5
    template = read_template(TEMPLATES / "generated-he.png", method)
    before, after = (
        np.median([distance(tile, template, method) for tile in of[stains][::3]]) for of in (tiles, changed)
    )
    assert after < before / 2


def test_pale_pink_tissue_is_no_stain_for_macenko_but_for_reinhard() -> None:
    pale = np.clip(np.random.default_rng(0).normal((228, 150, 190), 8, (64, 64, 3)), 0, 255).astype(np.uint8)
    assert not has_stains(pale, "macenko")
    assert has_stains(pale, "reinhard")
