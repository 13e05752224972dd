"""A trained encoder on disk: weights, registry entry, history, curves and model card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from safetensors.torch import save_file

from slidestudy.features.pretraining.optimisation import Trained
from slidestudy.features.pretraining.sampling import TileSet
from slidestudy.files import atomic_path, file_digest, versions
from slidestudy.tables import write_table
from slidestudy.yaml_files import dump_yaml

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SOFTWARE = ("torch", "torchvision", "timm", "lightly", "peft", "scikit-learn", "numpy", "safetensors")
ENTRY_KEYS = ("backend", "architecture", "arguments", "pooling", "input_size", "interpolation", "mean", "std")
WEIGHTS = "model.safetensors"
STYLE: Any = {"svg.hashsalt": "slidestudy", "svg.fonttype": "none", "font.size": 9}
ZOOM_LIMIT = 1.5
"""Ratio of the sizes at which training and encoding show a cell, above which the card warns."""
REFERENCES = {
    "simclr": "SimCLR (Chen et al., ICML 2020)",
    "dino": "DINO (Caron et al., ICCV 2021)",
    "fine-tune": "weakly supervised fine-tuning, every tile with its slide's label (KimiaNet, Riasatian et al. 2021)",
}


def publish(
    folder: str | os.PathLike[str],
    trained: Trained,
    tiles: TileSet,
    spec: Mapping[str, Any],
    recipe: Mapping[str, Any],
    grid: Mapping[str, Any],
    seed: int,
) -> None:
    """Writes a trained encoder, the folder as a whole.

    `model.safetensors` (fp16), `entry.yaml` (an entry of an encoder registry, the weights beside it), `history.tsv`,
    `curves.svg` and `card.md`.

    Args:
        folder: `encoders/<encoder>`.
        trained: The encoder.
        tiles: What it was trained on.
        spec: Its entry in the configuration, with its `name`.
        recipe: The configuration's section `pretraining`.
        grid: The configuration's section `tiles`.
        seed: The seed of the training.
    """
    with atomic_path(folder) as partial:
        partial.mkdir()
        save_file(trained.state, partial / WEIGHTS)
        (partial / "entry.yaml").write_text(entry_text(trained, spec, grid), encoding="utf-8", newline="\n")
        write_table(partial / "history.tsv", trained.history)
        draw_curves(trained, partial / "curves.svg")
        card = card_text(trained, tiles, spec, recipe, grid, seed, partial / WEIGHTS)
        (partial / "card.md").write_text(card, encoding="utf-8", newline="\n")


def entry_text(trained: Trained, spec: Mapping[str, Any], grid: Mapping[str, Any]) -> str:
    """The entry of an encoder registry, its weights relative to it."""
    kept = {key: spec[key] for key in ENTRY_KEYS if spec.get(key) not in (None, {}, "model")}
    geometry = [{"size": grid["size"], "mpp": grid["mpp"]}]
    entry = {**kept, "weights": WEIGHTS, "dim": trained.dim, "tiles": geometry}
    heading = "# An encoder trained by slidestudy, for `registries:` of a study; card.md says of what.\n"
    return heading + dump_yaml({str(spec["name"]): entry}, keep_order=True)


def draw_curves(trained: Trained, path: Path) -> None:
    """Draws the history, one panel for each quantity."""
    with plt.rc_context(STYLE):
        count = len(trained.curves)
        figure, axes = plt.subplots(1, count, figsize=(3 * count, 2.6), squeeze=False, layout="constrained")
        for axis, (title, columns) in zip(axes[0], trained.curves.items(), strict=True):
            for column in columns:
                rows = trained.history[["epoch", column]].dropna()
                axis.plot(rows["epoch"], rows[column], marker=".", label=column)
            axis.set(title=title, xlabel="epoch")
            if len(columns) > 1:
                axis.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)


def zoom(spec: Mapping[str, Any], recipe: Mapping[str, Any], grid: Mapping[str, Any]) -> float:
    """How many times larger encoding shows a cell than the average view of the training did."""
    shown = float(np.sqrt((recipe["min_scale"] + 1) / 2))
    return float(spec.get("input_size") or grid["size"]) * shown / float(recipe["crop"])


def caveats(tiles: TileSet, spec: Mapping[str, Any], recipe: Mapping[str, Any], grid: Mapping[str, Any]) -> list[str]:
    """What a user of the encoder must know."""
    slides, patients = len(set(tiles.slides)), len(set(tiles.patients))
    found = [
        f"Trained on {len(tiles)} tiles of {slides} slides of {patients} patients: no foundation model. It knows the"
        " tissue, stain and scanners of these slides.",
        "Results on slides of the patients that it was trained on are not those of new patients"
        + (", and their labels are in its weights." if recipe["method"] == "fine-tune" else "."),
    ]
    ratio = zoom(spec, recipe, grid)
    if not 1 / ZOOM_LIMIT <= ratio <= ZOOM_LIMIT:
        side = round(recipe["crop"] / np.sqrt((recipe["min_scale"] + 1) / 2) / 32) * 32
        found.append(
            f"Encoding shows cells {ratio:.2g} times as large as the average view of the training did. Set"
            f" input_size: {side}, another crop, or smaller tiles."
        )
    return found


def _listed(names: list[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def card_text(
    trained: Trained,
    tiles: TileSet,
    spec: Mapping[str, Any],
    recipe: Mapping[str, Any],
    grid: Mapping[str, Any],
    seed: int,
    weights: Path,
) -> str:
    """The model card: data, recipe, what was measured, caveats, provenance."""
    size, last = weights.stat().st_size, trained.history.iloc[-1].dropna()
    cohorts = ", ".join(f"{name} ({count} slides)" for name, count in tiles.cohorts.items())
    reasons: dict[str, list[str]] = {}
    for slide, why in tiles.left_out.items():
        reasons.setdefault(why, []).append(slide)
    left_out = "; ".join(f"{why}: {_listed(slides)}" for why, slides in reasons.items()) or "none"
    per_slide = np.unique(tiles.slides, return_counts=True)[1]
    drawn = f"{len(tiles)}, {per_slide.min()} to {per_slide.max()} of a slide"
    facts = {
        "architecture": f"{spec['architecture']} (timm), vectors of length {trained.dim}",
        "weights": f"{WEIGHTS}, fp16, {size / 1e6:.2f} MB, SHA-256 {file_digest(weights)}",
        "method": REFERENCES[recipe["method"]],
        "started from": recipe["start"] if recipe["start"] in ("none", "hub") else Path(recipe["start"]).name,
        "cohorts": cohorts,
        "slides left out": left_out,
        "patients": str(len(set(tiles.patients))),
        "tiles": f"{drawn}; {grid['size']} px at {grid['mpp']} um/px",
        **trained.facts,
        "last epoch": ", ".join(f"{key} {value:.4g}" for key, value in last.items()),
        "seed": str(seed),
        "software": ", ".join(f"{name} {version}" for name, version in versions(*SOFTWARE).items()),
    }
    lines = [f"# {spec['name']}", "", "A patch encoder trained by slidestudy (rule `pretrain_encoder`).", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    lines += ["", "## Recipe", "", "```yaml", dump_yaml(dict(recipe), keep_order=True).rstrip(), "```"]
    lines += ["", "## Caveats", "", *(f"- {text}" for text in caveats(tiles, spec, recipe, grid)), ""]
    return "\n".join(lines)
