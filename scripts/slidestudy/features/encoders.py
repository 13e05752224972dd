"""Making an encoder from its entry in the configuration."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slidestudy.encoder_entries import tile_problem
from slidestudy.errors import StudyError
from slidestudy.features import stain_texture
from slidestudy.features.identity import Encoder, EncoderIdentity
from slidestudy.files import digest


class StainTextureEncoder:
    """Hand-crafted stain, blob and texture statistics (see `stain_texture`).

    Args:
        name: The study's name for it.
        mpp: Resolution of the tiles, um/px.
    """

    def __init__(self, name: str, mpp: float) -> None:
        self._mpp = mpp
        version = f"stain-texture/{stain_texture.VERSION}"
        names = digest([version, *stain_texture.feature_names()])
        self.identity = EncoderIdentity(
            name, "stain-texture", version, stain_texture.DIM, "none needed (hand-crafted)", names, "fp32", {}
        )
        # One thread per job: the workflow already runs as many jobs as there are cores.
        cv2.setNumThreads(1)

    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encodes tiles, uint8 (n, size, size, 3), as float32 (n, dim)."""
        return np.stack([stain_texture.encode_tile(tile, self._mpp) for tile in tiles])


def build_encoder(
    spec: dict[str, Any],
    tile_size: int,
    tile_mpp: float,
    seed: int,
    threads: int = 1,
    weights_dir: str | None = None,
) -> Encoder:
    """Makes an encoder from its entry in the configuration.

    Args:
        spec: The complete entry, with its `name`; files absolute.
        tile_size: Tile side, px.
        tile_mpp: Resolution of the tiles, um/px.
        seed: Seed of untrained weights.
        threads: CPU threads that the encoder may use.
        weights_dir: Folder that `slidestudy encoders fetch` filled; looked at before the hub.

    Raises:
        StudyError: Tiles that the encoder is not meant for, weights that are missing or do not fit, or a dimension that
            differs from the entry's.
    """
    problem = tile_problem(spec["name"], spec, {"size": tile_size, "mpp": tile_mpp})
    if problem is not None:
        raise StudyError.of([problem])
    encoder: Encoder
    if spec["backend"] == "stain-texture":
        encoder = StainTextureEncoder(spec["name"], tile_mpp)
    else:
        # Imported here, since torch takes seconds to load and the hand-crafted encoder does not need it.
        from slidestudy.features.torch_encoder import TorchEncoder

        encoder = TorchEncoder(spec, tile_size, seed, threads, weights_dir, tile_mpp)
    if spec.get("dim") not in (None, encoder.identity.dim):
        what = f"gives vectors of length {encoder.identity.dim}, though its entry says dim: {spec['dim']}"
        remedy = "correct `dim`, `architecture`, `pooling` or `arguments` of the entry"
        raise StudyError(what, f"encoder {spec['name']}", remedy)
    return encoder
