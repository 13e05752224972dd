"""Making an encoder from its entry, and what it says of itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from slidestudy.errors import StudyError
from slidestudy.features import stain_texture
from slidestudy.features.encoders import StainTextureEncoder, build_encoder

SPEC = {"name": "hand", "backend": "stain-texture"}


def tiles(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_the_hand_crafted_encoder_says_what_it_is() -> None:
    identity = build_encoder(SPEC, 32, 0.5, seed=1).identity
    assert (identity.name, identity.backend, identity.dim) == ("hand", "stain-texture", stain_texture.DIM)
    assert identity.architecture == f"stain-texture/{stain_texture.VERSION}"
    assert "hand-crafted" in identity.weights
    assert len(identity.weights_digest) == 16


def test_tiles_are_encoded_row_by_row_at_the_studys_resolution() -> None:
    batch = tiles()
    encoded = build_encoder(SPEC, 32, 0.8, seed=1).encode(batch)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, [stain_texture.encode_tile(tile, 0.8) for tile in batch])
    assert not np.array_equal(encoded, build_encoder(SPEC, 32, 0.5, seed=1).encode(batch))


def test_another_version_or_other_features_have_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {StainTextureEncoder("a", 0.5).identity.weights_digest}
    monkeypatch.setattr(stain_texture, "VERSION", stain_texture.VERSION + 1)
    digests.add(StainTextureEncoder("a", 0.5).identity.weights_digest)
    monkeypatch.setattr(stain_texture, "feature_names", lambda: ["other"])
    digests.add(StainTextureEncoder("a", 0.5).identity.weights_digest)
    assert len(digests) == 3


def test_seed_and_threads_leave_the_hand_crafted_encoder_as_it_is() -> None:
    first, second = build_encoder(SPEC, 32, 0.5, 1, threads=1), build_encoder(SPEC, 32, 0.5, 2, threads=2)
    assert asdict(first.identity) == asdict(second.identity)


@pytest.mark.parametrize("dim", [None, stain_texture.DIM])
def test_a_dim_that_fits_is_accepted(dim: int | None) -> None:
    assert build_encoder({**SPEC, "dim": dim}, 32, 0.5, 1).identity.dim == stain_texture.DIM


def test_a_dim_that_differs_is_refused_with_both_numbers() -> None:
    with pytest.raises(StudyError, match=rf"length {stain_texture.DIM}, .*dim: 512") as caught:
        build_encoder({**SPEC, "dim": 512}, 32, 0.5, 1)
    assert caught.value.problems[0].where == "encoder hand"


def test_the_hand_crafted_encoder_does_not_load_torch() -> None:
    code = f"""
import sys
from slidestudy.features import extraction
from slidestudy.features.encoders import build_encoder
build_encoder({SPEC!r}, 32, 0.5, 1)
print("torch" in sys.modules)
"""
    path = ":".join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
