"""What a slide encoder is, which patch features it reads, and the refusal of all others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.store import FeatureStore


@dataclass(frozen=True)
class SlideEncoderIdentity:
    """What a store of slide features must say of its encoder.

    Attributes:
        name: The study's name for it.
        backend: `mean`, `mean-std`, `titan`, `prism`, `madeleine`, `gigapath` or `chief`.
        encoder: The study's name of the patch encoder whose features it reads.
        dim: Length of a slide's vector.
        weights: Where the weights come from, in words.
        weights_digest: SHA-256 of the weights, first 16 hex digits.
        precision: Arithmetic, e.g. `fp32`.
    """

    name: str
    backend: str
    encoder: str
    dim: int
    weights: str
    weights_digest: str
    precision: str


class SlideEncoder(Protocol):
    """Anything that turns the patch features of a slide into one vector."""

    @property
    def identity(self) -> SlideEncoderIdentity:
        """What the store says of the slide encoder."""

    def encode(self, store: FeatureStore) -> NDArray[np.float32]:
        """Encodes a slide as float32 (dim,).

        Raises:
            StudyError: The features are another patch encoder's, or of other tiles, than the slide encoder reads.
        """


@dataclass(frozen=True)
class Requirement:
    """The patch features that a published slide encoder was trained on.

    Attributes:
        encoder: The registry's name of the patch encoder.
        aliases: Other names of it: of its hub repository, of its architecture, in other tools.
        dim: Length of its vectors.
        tiles: Geometries (side in px, um/px) that are accepted, the authors' own first.
    """

    encoder: str
    aliases: tuple[str, ...]
    dim: int
    tiles: tuple[tuple[int, float], ...]


def _plain(name: str) -> str:
    """The last part of a name without revision, case and punctuation: `hf-hub:MahmoodLab/conchv1_5@x` is `conchv15`."""
    return re.sub(r"[^a-z0-9]", "", name.split("@")[0].rsplit("/", 1)[-1].rsplit(":", 1)[-1].lower())


def check_patch_features(name: str, backend: str, needed: Requirement, attributes: Mapping[str, Any]) -> None:
    """Refuses patch features that a slide encoder was not trained on.

    The patch encoder is known by its name in the study or by its architecture; the length of its vectors must agree.

    Args:
        name: The slide encoder's name in the study.
        backend: Its backend.
        needed: What it needs.
        attributes: The attributes of a feature store.

    Raises:
        StudyError: Another patch encoder, or another tile geometry; says what to do.
    """
    found, tiles = attributes["encoder"], attributes["tiles"]
    where = f"slide encoder {name}, patch features of {found['name']}"
    known = {_plain(alias) for alias in (needed.encoder, *needed.aliases)}
    if _plain(found["name"]) not in known and _plain(found["architecture"]) not in known:
        what = f"{backend} reads the features of {needed.encoder}, not of {found['name']} ({found['architecture']})"
        remedy = f"add `{needed.encoder}: {{}}` to `encoders` and set `slide_encoders.{name}.encoder: {needed.encoder}`"
        raise StudyError(what, where, remedy)
    if found["dim"] != needed.dim:
        what = f"{backend} reads vectors of length {needed.dim}, not {found['dim']}"
        raise StudyError(what, where, f"use the registry's entry {needed.encoder} as it is, with its pooling")
    if not any(tiles["size"] == size and abs(tiles["mpp"] / mpp - 1) < 1e-3 for size, mpp in needed.tiles):
        accepted = " or ".join(f"{size} px at {mpp:g} um/px" for size, mpp in needed.tiles)
        what = f"{backend} needs tiles of {accepted}, not of {tiles['size']} px at {tiles['mpp']:g} um/px"
        raise StudyError(what, where, "set `tiles.size` and `tiles.mpp`, or leave this slide encoder out")
