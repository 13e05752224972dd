"""Registries of encoders: what is read, what is refused, and which tiles an encoder is meant for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidestudy.encoder_entries import load_registry, tile_problem
from slidestudy.errors import StudyError

SIZES, MPPS = st.integers(16, 2000), st.floats(0.05, 10)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_add_up_and_weights_are_relative_to_their_file(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a" / "one.yaml", "net: {backend: timm, architecture: resnet18, weights: w/net.safetensors}\n"
    )
    second = write(tmp_path / "two.yaml", "plain: {backend: stain-texture}\nhub: {backend: timm, weights: hub}\n")
    registry = load_registry([first, second])
    assert list(registry) == ["net", "plain", "hub"]
    assert registry["net"]["weights"] == str(tmp_path / "a" / "w" / "net.safetensors")
    assert registry["hub"]["weights"] == "hub"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("net: {backend: timm, architecure: resnet18}", "unknown key 'architecure'"),
        ("net: {backend: tim}", "'tim' is not one of"),
        ("net: {architecture: resnet18}", "the key 'backend' is missing"),
        ("net: {backend: timm, dim: many}", "key dim: 'many' is not of type 'integer'"),
        ("net: {backend: timm, tiles: [{size: 224}]}", "key tiles.0: 'mpp' is a required property"),
        ("-net: {backend: timm}", "characters that are not allowed"),
        ("net: timm", "'timm' is not of type 'object'"),
        ("[1, 2]", "holds no encoder entries"),
    ],
)
def test_mistakes_are_named_with_file_and_entry(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "own.yaml", text)
    with pytest.raises(StudyError) as caught:
        load_registry([path])
    assert said in str(caught.value)
    assert caught.value.problems[0].where.startswith(str(path))


def test_all_mistakes_are_told_together_and_a_name_may_stand_once(tmp_path: Path) -> None:
    first = write(tmp_path / "one.yaml", "net: {backend: timm}\nbad: {}\n")
    second = write(tmp_path / "two.yaml", "net: {backend: timm, wrong: 1}\n")
    with pytest.raises(StudyError, match="3 problems") as caught:
        load_registry([first, second])
    assert f"'net' stands in {first} too" in str(caught.value)


@given(SIZES, MPPS, st.lists(st.tuples(SIZES, MPPS), max_size=3), st.booleans())
def test_tiles_fit_where_the_entry_names_them_or_none(
    size: int, mpp: float, others: list[tuple[int, float]], override: bool
) -> None:
    tiles = {"size": size, "mpp": mpp}
    entry = {"tiles": [{"size": s, "mpp": m} for s, m in others], "allow_other_tiles": override}
    strange = bool(others) and not override and all(s != size or abs(m / mpp - 1) >= 1e-6 for s, m in others)
    assert (tile_problem("net", entry, tiles) is not None) == strange
    assert tile_problem("net", {**entry, "tiles": [*entry["tiles"], tiles]}, tiles) is None
    assert tile_problem("net", {}, tiles) is None


def test_other_tiles_are_a_problem_that_names_both_and_the_remedy() -> None:
    problem = tile_problem("uni", {"tiles": [{"size": 224, "mpp": 0.5}]}, {"size": 512, "mpp": 1.0})
    assert problem is not None
    assert problem.where == "encoder uni"
    assert "224 px at 0.5 um/px" in problem.what
    assert "512 px at 1 um/px" in problem.what
    assert "allow_other_tiles: true" in problem.remedy
