"""Where the numbers come from: versions, digests, seed and settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slidestudy.report.collect import Results
from slidestudy.report.layout import Cell, Table, Value, make_table
from slidestudy.report.predicted import is_adopted
from slidestudy.report.specimens import encoder_cell, identity_values, recipes
from slidestudy.yaml_files import dump_yaml


def without_folders(value: Any) -> Any:
    """A setting with every absolute path cut to its file name: where a file lay on one machine says nothing."""
    if isinstance(value, dict):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_folders(part) for part in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def settings_text(results: Results) -> str:
    """The settings as YAML."""
    return dump_yaml(without_folders(results.settings))


def version_table(results: Results) -> Table:
    """Software versions, as the outputs of each stage name them."""
    stages: dict[str, list[dict[str, Any]]] = {
        "slides": list(results.inspections.values()),
        "tissue": list(results.tissues.values()),
        **{f"features:{name}": list(stores.values()) for name, stores in results.stores.items()},
        **{f"models:{name}": list(model.cards.values()) for name, model in results.models.items()},
    }
    rows: list[Sequence[Value]] = []
    for stage, records in stages.items():
        found: dict[str, set[str]] = {}
        for record in records:
            for package, version in (record.get("software") or {}).items():
                found.setdefault(package, set()).add(str(version))
        if found:
            listed = ", ".join(f"{package} {' and '.join(sorted(found[package]))}" for package in sorted(found))
            mixed = any(len(versions) > 1 for versions in found.values())
            rows.append([stage, Cell(listed, flag="versions differ" if mixed else "")])
    return make_table("Software, as the outputs of each stage name it.", ["Stage", "Software"], rows)


def digest_table(results: Results) -> Table:
    """Digests of weights, recipes and samples."""
    rows: list[list[Cell | str | None]] = []
    for encoder in results.settings["encoders"]:
        cell = encoder_cell(results, encoder)
        rows.append([cell, "encoder weights", ", ".join(identity_values(results, encoder, "weights_digest"))])
        rows.append([cell, "feature recipe", ", ".join(recipes(results, encoder))])
    for model, files in results.models.items():
        found = sorted({str(card["recipe"]) for card in files.cards.values() if card.get("recipe")})
        if is_adopted(model, results):
            digests = sorted({str(card["sha256"]) for card in files.adopted.values()})
            rows.append([model, "file of its predictions", ", ".join(digests)])
            continue
        rows.append([model, "feature recipe of its folds", ", ".join(found)])
        seeds = [str(card["seed"]) for card in files.cards.values() if card.get("seed") is not None]
        rows.append([model, "seeds of its folds", ", ".join(seeds)])
    for model, explanations in results.explanations.items():
        found = sorted({str(d) for d in explanations.scores["sample_digest"]})
        rows.append([model, "patch sample of its explanations", ", ".join(found)])
    return make_table("Digests and seeds.", ["Of", "What", "Value"], rows)
