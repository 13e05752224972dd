"""Making a slide encoder from its entry in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slidestudy.features.slide_encoders.identity import SlideEncoder
from slidestudy.features.slide_encoders.pooling import PoolingEncoder

POOLING = ("mean", "mean-std")


def build_slide_encoder(spec: dict[str, Any], attributes: Mapping[str, Any], threads: int = 1) -> SlideEncoder:
    """Makes a slide encoder.

    Args:
        spec: The complete entry: `name backend encoder weights precision`, and `revision` where given. Paths absolute.
        attributes: Attributes of one of the feature stores to be encoded; refused before anything is loaded.
        threads: CPU threads.

    Raises:
        StudyError: The features are another patch encoder's, a package is missing, the weights cannot be had or do not
            fit.
    """
    if spec["backend"] in POOLING:
        return PoolingEncoder(spec, int(attributes["encoder"]["dim"]))
    # Imported here, since torch takes seconds to load and pooling does not need it.
    from slidestudy.features.slide_encoders.published import PUBLISHED

    return PUBLISHED[spec["backend"]](spec, attributes, threads)
