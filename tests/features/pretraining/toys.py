"""Tiles that are easy to tell apart, and recipes small enough to train in a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from slidestudy.features.pretraining.sampling import TileSet

SIZE = 32
CNN, VIT = "test_resnet", "test_vit"
"""timm's smallest residual network and vision transformer: 0.4 million parameters."""


def spec(architecture: str = CNN, **more: Any) -> dict[str, Any]:
    arguments = {"arguments": {"dynamic_img_size": True}} if architecture == VIT else {}
    return {"name": "toy", "backend": "timm", "architecture": architecture, "weights": "study", **arguments, **more}


def recipe(method: str, **more: Any) -> dict[str, Any]:
    return {
        "method": method,
        "cohorts": [],
        "start": "none",
        "tiles_per_slide": 8,
        "epochs": 4,
        "batch_size": 16,
        "learning_rate": 0.002,
        "weight_decay": 0.0001,
        "warmup_epochs": 1,
        "crop": SIZE,
        "min_scale": 0.5,
        "temperature": 0.2,
        "check_every": 2,
        "neighbours": 3,
        "check_label": None,
        "threads": 1,
        "target": "positive",
        "task": "classification",
        "target_range": [0, 100],
        "trainable": "all",
        "blocks": 1,
        "lora_rank": 2,
        **more,
    }


def toy_tiles(patients: int = 8, per_patient: int = 8, seed: int = 0) -> TileSet:
    """Tiles of two classes: patients with an even number have dark spots on pink, the others lie on violet."""
    rng = np.random.default_rng(seed)
    tiles, slides, names, targets = [], [], [], []
    for patient in range(patients):
        positive = patient % 2 == 0
        for _ in range(per_patient):
            tile = np.full((SIZE, SIZE, 3), (225, 150, 195) if positive else (190, 160, 220), np.int16)
            for y, x in rng.integers(0, SIZE - 5, (12 if positive else 3, 2)):
                tile[y : y + 5, x : x + 5] = (70, 40, 110)
            tiles.append(np.clip(tile + rng.normal(0, 12, tile.shape), 0, 255).astype(np.uint8))
            slides.append(f"s{patient}")
            names.append(f"p{patient}")
            targets.append(float(positive))
    classes = np.array(["spots" if t else "plain" for t in targets])
    return TileSet(
        np.stack(tiles), np.array(slides), np.array(names), np.array(targets), classes, {"east": patients}, {}
    )
