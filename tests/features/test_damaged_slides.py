"""Damaged slides on their way from inspection to features: kept with their bad tiles flagged, or lost with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from slidestudy.demo.study import generate_study
from slidestudy.errors import Reason
from slidestudy.features.extraction import extract_features
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.store import read_features
from slidestudy.settings import fill_defaults
from slidestudy.slides.inspection import inspect_slide
from slidestudy.tables import load_schema
from slidestudy.tissue.segmentation import segment_tissue

TRIALS = 30
TILES = {"size": 64, "mpp": 1.0, "min_tissue": 0.1, "min_tiles": 4, "max_unreadable": 0.05}
SCHEMA = load_schema("config")["properties"]
WHITE = 250


class Lightest:
    """An encoder that gives the darkest and the mean value of a tile."""

    identity = EncoderIdentity("lightest", "stain-texture", "lightest/1", 2, "none", "0" * 16, "fp32", {})

    def encode(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.stack([tiles.min((1, 2, 3)), tiles.mean((1, 2, 3))], axis=1).astype(np.float32)


def options(section: str) -> dict[str, Any]:
    """The defaults of a section of the configuration."""
    found: dict[str, Any] = fill_defaults({}, SCHEMA[section], load_schema("config"))
    return found


def run(path: Path, output: Path) -> tuple[str, dict[tuple[int, int], float]]:
    """All stages of a slide; returns the reason why it was lost or nothing, and the darkest value of each tile."""
    entry = {"slide_id": "s1", "patient_id": "p1", "cohort": "c1", "path": str(path), "mpp": None, "roi": None}
    record = inspect_slide(entry, options("inspection"))
    json.dumps(record, allow_nan=False)
    if record["status"] == "excluded":
        return record["reason"]["code"], {}
    found = segment_tissue(entry, record, options("tissue"))
    json.dumps(found.record, allow_nan=False)
    tissue = output.with_suffix(".geojson")
    tissue.write_text(json.dumps(found.geojson))
    attributes = extract_features(entry, record, found.record, tissue, Lightest(), TILES, output)
    if attributes["status"] == "excluded":
        return attributes["reason"]["code"], {}
    store = read_features(output)
    assert len(store.features) + attributes["n_unreadable"] == attributes["n_tiles"]
    return "", dict(zip(map(tuple, store.coords.tolist()), store.features[:, 0].astype(float).tolist(), strict=True))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_study(folder, seed=11, scale=0.45, patients={"north": 2, "south": 1, "west": 1}, workers=1)
    return folder / "slides"


@pytest.mark.parametrize("name", ["north/N02-2.svs", "north/N02-1.tif"])
def test_a_damaged_slide_is_kept_without_its_bad_tiles_or_lost_with_a_reason(
    slides: Path, tmp_path: Path, name: str
) -> None:
    content = (slides / name).read_bytes()
    reason, sound = run(slides / name, tmp_path / "sound.zarr")
    assert reason == ""
    assert len(sound) > 20
    damaged = tmp_path / f"damaged{Path(name).suffix}"
    outcomes = []
    for trial in range(TRIALS):
        rng = np.random.default_rng([trial, len(content)])
        start, length = int(rng.integers(0, len(content))), int(2 ** rng.uniform(0, 12))
        cut = content[:start] if trial % 3 == 0 else content[:start] + rng.bytes(length) + content[start + length :]
        damaged.write_bytes(cut)
        reason, tiles = run(damaged, tmp_path / f"{trial}.zarr")
        assert reason in {"", *Reason}
        assert reason or tiles
        for corner in tiles.keys() & sound.keys():
            assert tiles[corner] < WHITE, "a tile of tissue became white"
        outcomes.append(reason)
    assert "" in outcomes, "slight damage costs tiles, not the slide"
    assert "truncated" in outcomes
