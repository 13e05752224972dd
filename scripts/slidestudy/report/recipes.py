"""What the report says of how models were made: recipes, and what each fold's validation part chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.labels import target_text
from slidestudy.report.collect import Results
from slidestudy.report.layout import Cell, Column, Table, Value, count, make_table, plural
from slidestudy.report.predicted import file_cell, is_adopted, is_trained, weights_cell
from slidestudy.report.specimens import encoder_cell
from slidestudy.tables import load_schema

PARTS = ("train", "validation", "test")
SPEED_ONLY = ("threads", "memory_gb", "pack_tiles", "share_load")
"""Keys of a recipe that change no result, or only in the last digits."""


def recipe_table(results: Results) -> Table:
    """How each model was made; of the recipe what differs from the default, which is ECTIL's."""
    rows = []
    for name, model in results.settings["models"].items():
        trained, adopted = is_trained(name, results), is_adopted(name, results)
        not_trained = file_cell if adopted else weights_cell
        rows.append([
            name,
            model["task"],
            None if adopted else Cell(model["aggregator"], _inputs_note(model)),
            None if adopted else encoder_cell(results, model["encoder"]),
            Cell(target_text(model), _range_note(model)),
            Cell(_folds_text(model), f"by {model['group_by']}") if trained else None,
            _training_cell(model) if trained else not_trained(name, results),
        ])  # fmt: skip
    columns = ["Model", "Task", "Aggregator", "Encoder", "Target", "Folds", "Training"]
    caption = (
        "Models and their recipes. Training: what differs from the default recipe (ECTIL's); all of it is in each "
        "fold's model.json."
    )
    return make_table(caption, columns, rows)


def _training_cell(model: Mapping[str, Any]) -> Cell:
    """What differs from the default recipe, with the aggregator's options, and what was searched."""
    properties = load_schema("config")["$defs"]["model"]["properties"]["training"]["properties"]
    chosen = {**(model.get("training") or {}), **(model.get("options") or {})}
    changed = {
        key: value
        for key, value in chosen.items()
        if key not in SPEED_ONLY and (key not in properties or value != properties[key].get("default"))
    }
    search = model.get("search")
    searched = f"searched in each fold: {', '.join(map(_words, search['space']))}" if search else ""
    text = ", ".join(f"{_words(key)} {_plain(value)}" for key, value in changed.items())
    return Cell(text or "the default recipe", searched)


def _folds_text(model: Mapping[str, Any]) -> str:
    """How many folds, and by what scheme where it is not plain k-fold."""
    splits = model.get("splits") or {}
    scheme = splits.get("scheme", "k-fold")
    if scheme == "k-fold":
        return str(model["folds"])
    if scheme == "repeated-k-fold":
        return f"{splits.get('repeats')} times {model['folds']}"
    return f"{model['folds']}, {scheme}" if scheme == "monte-carlo" else scheme


def _inputs_note(model: Mapping[str, Any]) -> str:
    """What the model is told beside the tiles."""
    notes = [f"with {', '.join(model['covariates'])}"] if model.get("covariates") else []
    modality = model.get("modality")
    if modality:
        groups = plural(len(modality["groups"]), "group") if modality.get("groups") else "one group"
        notes.append(f"second modality: {', '.join(modality['columns'])}, {groups}")
    return "; ".join(notes)


def _range_note(model: Mapping[str, Any]) -> str:
    """The range of a regression's target."""
    if model["task"] != "regression":
        return ""
    return "{:g} to {:g}".format(*model["target_range"]) if model.get("target_range") else "without bounds"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: Any) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def splits_table(name: str, results: Results) -> Table | None:
    """Patients and slides of every fold and part, the centres tested where they group the folds, and what was kept.

    None of a model that was not trained here: nothing was dealt into parts for it.
    """
    if not is_trained(name, results):
        return None
    files, by_center = results.models[name], results.settings["models"][name].get("group_by") == "center"
    centers = dict(zip(results.patients["patient_id"], results.patients["center"], strict=True))
    thresholds = sorted({key for card in files.cards.values() for key in card.get("thresholds") or {}})
    searched = any(card.get("search") for card in files.cards.values())
    rows: list[Sequence[Value]] = []
    for fold, table in files.splits.groupby("fold", sort=True):
        card = files.cards.get(int(str(fold)), {})
        chosen = card.get("thresholds") or {}
        rows.append([
            f"fold {fold}",
            *[_part_cell(table[table["part"] == part]) for part in PARTS],
            *([_tested_centers(table, centers)] if by_center else []),
            *([_found_cell(card.get("search"))] if searched else []),
            count(int(card["best_epoch"])) if card.get("best_epoch") is not None else None,
            *[f"{float(chosen[key]):.3f}" if key in chosen else None for key in thresholds],
        ])  # fmt: skip
    columns: list[str | Column] = ["Fold", *[Column(part, "patients", numeric=True) for part in PARTS]]
    columns += ["test centres"] if by_center else []
    columns += [Column("setting found", "and its score on the inner folds")] if searched else []
    columns.append(Column("epoch kept", numeric=True))
    columns += [Column(f"threshold, {key}", numeric=True) for key in thresholds]
    also = ", and the setting that the search within the fold found" if searched else ""
    caption = (
        f"{name}: patients of every fold and part, and the epoch that the validation part chose{also}. "
        "Test parts choose nothing."
    )
    return make_table(caption, columns, rows)


def _found_cell(search: Mapping[str, Any] | None) -> Cell | None:
    """The setting that a search found, its score, and how many were tried."""
    if not search:
        return None
    found = ", ".join(f"{_words(key)} {_plain(value)}" for key, value in search["best"].items())
    failed = f", {search['failed']} failed" if search["failed"] else ""
    return Cell(found, f"{float(search['value']):.2f}; {plural(int(search['trials']), 'trial')}{failed}")


def _tested_centers(rows: pd.DataFrame, centers: Mapping[str, str]) -> str:
    """The centres of a fold's test part."""
    tested = rows.loc[rows["part"] == "test", "patient_id"]
    return ", ".join(sorted({centers[patient] for patient in tested if centers.get(patient)}))


def _part_cell(rows: pd.DataFrame) -> Cell:
    return Cell(count(rows["patient_id"].nunique()), plural(len(rows), "slide"))
