"""Slide encoders without weights: moments of the patch features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.identity import SlideEncoderIdentity
from slidestudy.features.store import FeatureStore
from slidestudy.files import digest

VERSION = "1"


class PoolingEncoder:
    """The mean, or the mean and the standard deviation, of each patch feature over a slide.

    Sums are taken in float64, so that the order of the tiles does not show in float32. The SD divides by n: a slide
    of one tile has the SD 0.

    Args:
        spec: `name`, `backend` (`mean` or `mean-std`) and `encoder`.
        patch_dim: Length of the patch features.
    """

    def __init__(self, spec: dict[str, Any], patch_dim: int) -> None:
        self._with_std = spec["backend"] == "mean-std"
        self.identity = SlideEncoderIdentity(
            spec["name"],
            spec["backend"],
            spec["encoder"],
            patch_dim * (2 if self._with_std else 1),
            "none needed (pooling)",
            digest([spec["backend"], VERSION]),
            "fp32",
        )

    def encode(self, store: FeatureStore) -> NDArray[np.float32]:
        """Encodes a slide as float32 (dim,): means first, then standard deviations."""
        if len(store.features) == 0:
            where = str(store.attributes.get("slide_id", ""))
            raise StudyError("has no tiles to pool", where, "extract its features anew, or exclude the slide")
        features = store.features.astype(np.float64)
        parts = [features.mean(axis=0)]
        if self._with_std:
            parts.append(features.std(axis=0))
        return np.concatenate(parts).astype(np.float32)
