"""A configuration with all that a study can have, to be changed by a test."""

from __future__ import annotations

import copy
from typing import Any

MODEL = {"task": "regression", "aggregator": "ectil", "encoder": "stain-texture", "target": "tils"}
OWN = {"backend": "timm", "architecture": "resnet18", "weights": "study", "pretraining": {"method": "simclr"}}
CONFIG: dict[str, Any] = {
    "study": "a study",
    "results": "results",
    "slides": "slides.tsv",
    "patients": "patients.tsv",
    "cohorts": {"north": {"role": "development"}, "south": {"role": "external"}},
    "tiles": {"size": 256, "mpp": 0.5},
    "encoders": {"stain-texture": {}, "resnet18-untrained": {}, "own": OWN},
    "slide_encoders": {"spread": {"backend": "mean-std", "encoder": "own"}},
    "comparisons": {"by-tils": {"target": "tils", "task": "regression", "target_range": [0, 100]}},
    "summaries": {"encoders": ["own"]},
    "models": {"til": MODEL, "other": {**MODEL, "target": "age"}},
    "validation": {"survival": {"overall": {"time": "time", "event": "event", "scores": {"til": {}, "tils": {}}}}},
    "explanations": {"models": ["til"], "texts": {"short": "short.md", "long": "long.md"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The configuration with one key set, given by its dotted path."""
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    part = config
    for key in parents:
        part = part.setdefault(key, {})
    part[last] = value
    return config
