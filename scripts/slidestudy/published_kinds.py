"""The kinds of published weights that a study can use under `models.<name>.published`, and what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MPP_TOLERANCE = 0.005
"""Share by which a resolution may differ: published ones are rounded (1.14 is 256 um over 224 px)."""


@dataclass(frozen=True)
class PublishedKind:
    """What is known of a kind of published weights.

    Attributes:
        architecture: Of `build_model`. Features go in as they are: neither scaled nor cut.
        names: Prefix of the file's keys -> prefix of ours.
        card: What `model.json` says of the model.
        tiles: The tiles that the weights were trained on, as (size in px, um/px).
    """

    architecture: Mapping[str, Any]
    names: Mapping[str, str]
    card: Mapping[str, Any]
    tiles: tuple[tuple[int, float], ...]

    def fits(self, size: int, mpp: float) -> bool:
        """Whether tiles (px, um/px) are those that the weights were trained on."""
        return any(size == side and abs(mpp / wanted - 1) < MPP_TOLERANCE for side, wanted in self.tiles)


PUBLISHED: dict[str, PublishedKind] = {
    "ectil": PublishedKind(
        architecture={
            "aggregator": "ectil",
            "dim": 2048,
            "hidden": 512,
            "attention": 128,
            "dropout": 0.4,
            "tile_dropout": 0.1,
            "clip": None,
        },
        names={
            "net.post_encoder.2.": "post_encoder.0.",
            "net.classifier.2.": "classifier.",
            "net.attention.attention.": "attention.attention.",
            "net.attention.gate.0.": "attention.gate.0.",
            "net.attention.attention_hidden.0.": "attention.attention_hidden.0.",
        },
        card={
            "task": "regression",
            "target_range": [0, 100],
            "task_card": {"name": "regression", "columns": ["target"], "target_range": [0, 100]},
            "thresholds": {},
            "published": {
                "title": "ECTIL: stromal TILs of breast cancer, %",
                "source": "https://github.com/NKI-AI/ectil; Lancet Digital Health 2025; arXiv 2501.14379",
                "licence": "Apache-2.0 of the repository; none stated beside the files",
                "tiles": "512 px at 0.5 um/px, RetCCL, ImageNet mean and SD",
            },
        },
        tiles=((512, 0.5),),
    ),
    "crc-prognosis": PublishedKind(
        architecture={
            "aggregator": "abmil",
            "dim": 2048,
            "hidden": 256,
            "attention": 128,
            # Not stated; without effect but in training.
            "dropout": 0.5,
            "tile_dropout": 0.0,
            "batch_norm": True,
            "clip": None,
        },
        names={
            "encoder.0.": "post_encoder.0.",
            "attention.0.": "attention.0.",
            "attention.2.": "attention.2.",
            "head.1.": "norm.",
            "head.3.": "classifier.",
        },
        card={
            "task": "survival-cox",
            "target_range": None,
            "task_card": {"name": "survival-cox", "columns": ["time", "event"]},
            # Of the raw output, as X2X uses it (arXiv 2508.09205).
            "thresholds": {"published": -0.135},
            "published": {
                "title": "Risk of colorectal cancer patients",
                "source": "https://github.com/KatherLab/crc-models-2022; Jiang et al., Lancet Digital Health 2024, "
                "PIIS2589-7500(23)00208-X; explained in X2X, arXiv 2508.09205",
                "licence": "MIT",
                "tiles": "224 px at 1.14 um/px, Macenko-normalised, RetCCL, ImageNet mean and SD",
            },
        },
        tiles=((224, 1.14),),
    ),
}
