"""A small search over planted features, as every test of it runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tests.models.builders import RECIPE

from slidestudy.models.resuming import forget
from slidestudy.models.searching.outcome import SearchResult, save_search
from slidestudy.models.searching.search import search_card, search_fold

torch.set_num_threads(1)
FOLD = 1
SETTINGS: dict[str, Any] = {
    "name": "m",
    "task": "regression",
    "target_range": [0, 100],
    "columns": ["target"],
    "aggregator": "ectil",
    "seed": 5,
    "folds": 3,
    "group_by": "patient",
    "splits": {"scheme": "k-fold", "lookalikes": "keep-together"},
    "training": {**RECIPE, "epochs": 6, "patience": 6, "options": {}},
}
SEARCH: dict[str, Any] = {
    "space": {"learning_rate": [1.0e-5, 0.05], "weight_decay": {"low": 1.0e-5, "high": 1.0e-2, "log": True}},
    "trials": 4,
    "inner_folds": 3,
    "sampler": "random",
    "seed": 5,
}
NO_PAIRS = pd.DataFrame({"patient_id_a": [], "patient_id_b": []})


def run(study: Any, output: Path, settings: dict[str, Any] = SETTINGS, **options: Any) -> SearchResult:
    labels, stores, splits = study
    changed = {**SEARCH, **{key: options.pop(key) for key in SEARCH if key in options}}
    common = {"output": output, "lookalikes": NO_PAIRS, "log": lambda line: None, **options}
    found = search_fold(splits, labels, stores, FOLD, settings, changed, **common)
    save_search(output, found, search_card(settings, changed, FOLD))
    forget(output)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
