"""Encoders side by side: the same slides, the same folds, two probes each, and the robustness index."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from slidestudy.errors import StudyError
from slidestudy.features.robustness import robustness_index
from slidestudy.features.slide_encoders.store import SlideFeatures, read_slide_features
from slidestudy.files import atomic_path, versions, write_json
from slidestudy.models.probes import PROBES, fit_probe
from slidestudy.models.splits import make_splits
from slidestudy.tables import write_table
from slidestudy.validation.comparison_figure import draw_comparison
from slidestudy.validation.metrics import COLUMNS, cohort_metrics
from slidestudy.validation.paired_differences import compare_with_reference

PREDICTIONS = ["candidate", "probe", "cohort", "slide_id", "patient_id", "fold", "prediction", "target"]
CHOICES = ["candidate", "probe", "fold", "chosen", "validation_error", "n_train", "n_validation", "note"]
ROBUSTNESS = [
    "candidate", "scope", "classes", "neighbours", "index", "ci_low", "ci_high", "same_class", "same_center",
    "at_random", "n", "n_left_out", "undefined_reason",
]  # fmt: skip
ENSEMBLE = "ensemble"
LEARNED = ("train", "validation")
"""The parts of a fold that a probe may see."""
SOFTWARE = ("numpy", "pandas", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class Candidates:
    """Encoders that are compared, on the slides that each of them has.

    Attributes:
        names: In the configuration's order.
        table: `slide_id patient_id cohort center target biology` of the common slides, sorted by slide.
        vectors: Candidate -> float64 (n_slides, dim), rows as in the table.
        identities: Candidate -> `slide_encoder patch_recipe recipe` of its store.
        left_out: Slides of the labels table that some candidate has not got, with those candidates.
    """

    names: list[str]
    table: pd.DataFrame
    vectors: dict[str, NDArray[np.float64]]
    identities: dict[str, dict[str, Any]]
    left_out: dict[str, list[str]]


def read_candidates(paths: Mapping[str, Sequence[str | os.PathLike[str]]], labels: pd.DataFrame) -> Candidates:
    """Reads the slide features of all candidates and keeps the slides that all of them have.

    Args:
        paths: Candidate -> its stores, one per cohort.
        labels: `slide_id patient_id cohort center target biology` of all slides.

    Raises:
        StudyError: A candidate's cohorts were encoded by different recipes, a store is damaged, or no slide is common.
    """
    rows: dict[str, dict[str, NDArray[np.float32]]] = {}
    identities: dict[str, dict[str, Any]] = {}
    for name, stores in paths.items():
        read = [features for features in map(read_slide_features, stores) if features.slide_ids]
        identities[name] = _common_identity(name, read)
        rows[name] = {s: v for part in read for s, v in zip(part.slide_ids, part.features, strict=True)}
    lacking = {str(s): [name for name in paths if s not in rows[name]] for s in labels["slide_id"]}
    left_out = {slide: names for slide, names in sorted(lacking.items()) if names}
    table = labels[~labels["slide_id"].isin(left_out)].sort_values("slide_id", ignore_index=True)
    if table.empty:
        raise StudyError(
            "no slide has features of every encoder", "comparison", "look in slides/ledger.tsv for what was lost"
        )
    vectors = {name: np.stack([rows[name][s] for s in table["slide_id"]]).astype(np.float64) for name in paths}
    return Candidates(list(paths), table, vectors, identities, left_out)


def _common_identity(name: str, read: Sequence[SlideFeatures]) -> dict[str, Any]:
    """What the stores of a candidate say of its encoder; they must agree."""
    recipes = {features.attributes["recipe"] for features in read}
    if len(recipes) > 1:
        listed = ", ".join(f"{features.cohort} by {features.attributes['recipe']}" for features in read)
        raise StudyError(f"its cohorts were encoded by different recipes: {listed}", name, "remove its slide_features")
    return {k: read[0].attributes[k] for k in ("slide_encoder", "patch_recipe", "recipe")} if read else {}


def make_common_splits(table: pd.DataFrame, roles: Mapping[str, str], settings: Mapping[str, Any]) -> pd.DataFrame:
    """The one set of folds over the labelled development slides, whatever is compared."""
    development = table["cohort"].map(dict(roles)) == "development"
    keys = ("task", "folds", "group_by", "seed")
    return make_splits(table[development & table["target"].notna()], **{key: settings[key] for key in keys})


def probe_candidate(
    name: str,
    vectors: NDArray[np.float64],
    table: pd.DataFrame,
    splits: pd.DataFrame,
    settings: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fits both probes in every fold and predicts every slide.

    A slide whose patient stands in the splits is predicted by the one fold that tested on the patient, any other by
    the mean of all folds. The test part is not seen before it is predicted.

    Args:
        name: The candidate.
        vectors: Its slide vectors (n_slides, dim).
        table: The slides, one per row.
        splits: The common folds.
        settings: `task target_range`.

    Returns:
        The columns of PREDICTIONS, and of CHOICES.
    """
    tests = splits[splits["part"] == "test"].drop_duplicates("patient_id")
    fold_of = dict(zip(tests["patient_id"], tests["fold"], strict=True))
    own = [fold_of.get(patient) for patient in table["patient_id"]]
    row_of = {slide: row for row, slide in enumerate(table["slide_id"])}
    target = table["target"].to_numpy(float)
    folds = sorted(splits["fold"].unique())
    predictions, choices = [], []
    for kind in PROBES:
        outputs = np.empty((len(folds), len(table)))
        for index, fold in enumerate(folds):
            of_fold = splits[splits["fold"] == fold]
            rows = {part: [row_of[s] for s in of_fold.loc[of_fold["part"] == part, "slide_id"]] for part in LEARNED}
            train, validation = ((vectors[rows[part]], target[rows[part]]) for part in LEARNED)
            keys = {"task": settings["task"], "target_range": settings["target_range"]}
            probe = fit_probe(kind, train, validation, **keys)
            outputs[index] = probe.predict(vectors)
            sizes = [len(rows[part]) for part in LEARNED]
            choices.append([name, kind, fold, probe.chosen, probe.validation_error, *sizes, probe.note])
        for row, (_, slide) in enumerate(table.iterrows()):
            fold = own[row]
            value = outputs[:, row].mean() if fold is None else outputs[folds.index(fold), row]
            where = ENSEMBLE if fold is None else str(fold)
            ids = [slide["cohort"], slide["slide_id"], slide["patient_id"]]
            predictions.append([name, kind, *ids, where, float(value), slide["target"]])
    return pd.DataFrame(predictions, columns=PREDICTIONS), pd.DataFrame(choices, columns=CHOICES)


def measure(
    predictions: pd.DataFrame, names: Sequence[str], roles: Mapping[str, str], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Metrics of every candidate and probe on every cohort: `candidate probe` and the columns of `metrics.COLUMNS`."""
    options = {**settings, "cutoffs": [], "cutoff_rule": ">"}
    tables = []
    for name in names:
        for kind in PROBES:
            own = predictions[(predictions["candidate"] == name) & (predictions["probe"] == kind)]
            for cohort, role in roles.items():
                found = cohort_metrics(own[own["cohort"] == cohort], options, cohort, role)
                tables.append(found.assign(candidate=name, probe=kind))
    return pd.concat(tables, ignore_index=True)[["candidate", "probe", *COLUMNS]]


def biological_classes(
    table: pd.DataFrame, roles: Mapping[str, str], settings: Mapping[str, Any]
) -> tuple[list[Any], str]:
    """The classes that the robustness index sets against the centre, and which they are, in words.

    The column named by `biology`; else the target's class; else, of a regression, whether the target lies above the
    median of the development slides.
    """
    if settings.get("biology") is not None:
        return table["biology"].tolist(), f"column {settings['biology']}"
    target = table["target"]
    if settings["task"] == "classification":
        return [None if pd.isna(t) else int(t) for t in target], f"classes of {settings['target']}"
    development = table["cohort"].map(dict(roles)) == "development"
    median = float(target[development].median())
    halves = [None if pd.isna(t) else "above" if t > median else "not above" for t in target]
    return halves, f"{settings['target']} above {median:g}, the development median"


def measure_robustness(candidates: Candidates, roles: Mapping[str, str], settings: Mapping[str, Any]) -> pd.DataFrame:
    """The robustness index of every candidate over the development cohorts and over all: the columns of ROBUSTNESS."""
    table = candidates.table
    classes, source = biological_classes(table, roles, settings)
    development = (table["cohort"].map(dict(roles)) == "development").to_numpy()
    rows = []
    for name in candidates.names:
        for scope, keep in (("development", development), ("all", np.ones(len(table), bool))):
            chosen = table[keep]
            found = robustness_index(
                candidates.vectors[name][keep],
                [c for c, k in zip(classes, keep, strict=True) if k],
                chosen["center"].tolist(),
                chosen["patient_id"].tolist(),
                k=settings["neighbours"],
                replicates=settings["bootstrap"],
                confidence=settings["confidence"],
                seed=settings["seed"],
            )
            keys = ("index", "ci_low", "ci_high", "same_class", "same_center", "at_random", "n")
            values = {key: getattr(found, key) for key in keys}
            common = {"candidate": name, "scope": scope, "classes": source, "neighbours": settings["neighbours"]}
            left = {"n_left_out": found.left_out, "undefined_reason": found.undefined_reason}
            rows.append({**common, **values, **left})
    return pd.DataFrame(rows, columns=ROBUSTNESS)


def compare_encoders(
    paths: Mapping[str, Sequence[str | os.PathLike[str]]],
    labels: pd.DataFrame,
    roles: Mapping[str, str],
    settings: Mapping[str, Any],
    folder: str | os.PathLike[str],
) -> None:
    """Compares encoders and writes all tables, the figure and the provenance.

    Args:
        paths: Candidate -> its slide features, one store per cohort; the first candidate is the reference.
        labels: `slide_id patient_id cohort center target biology` of all slides.
        roles: Cohort -> `development` or `external`.
        settings: `name seed bootstrap confidence target task target_range folds group_by biology neighbours`.
        folder: The final folder: `splits predictions choices metrics differences robustness .tsv`, `figure.svg .png`,
            `comparison.json`.

    Raises:
        StudyError: Stores that do not belong together, or too few slides for the folds.
    """
    candidates = read_candidates(paths, labels)
    splits = make_common_splits(candidates.table, roles, settings)
    # On one thread: small problems are slower on more, and sums would depend on how many there are.
    with threadpool_limits(1):
        probed = [
            probe_candidate(name, candidates.vectors[name], candidates.table, splits, settings)
            for name in candidates.names
        ]
        robustness = measure_robustness(candidates, roles, settings)
    predictions = pd.concat([p for p, _ in probed], ignore_index=True)
    metrics = measure(predictions, candidates.names, roles, settings)
    tables = {
        "splits": splits,
        "predictions": predictions,
        "choices": pd.concat([c for _, c in probed], ignore_index=True),
        "metrics": metrics,
        "differences": compare_with_reference(predictions, candidates.names, roles, settings),
        "robustness": robustness,
    }
    with atomic_path(folder) as partial:
        partial.mkdir()
        for name, table in tables.items():
            write_table(partial / f"{name}.tsv", table)
        draw_comparison(metrics, robustness, settings, partial / "figure.svg", partial / "figure.png")
        write_json(partial / "comparison.json", _provenance(candidates, roles, settings))


def _provenance(candidates: Candidates, roles: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was compared, on what, and by which software."""
    return {
        "settings": dict(settings),
        "roles": dict(roles),
        "reference": candidates.names[0],
        "candidates": {name: candidates.identities[name] for name in candidates.names},
        "slides": len(candidates.table),
        "slides_left_out": candidates.left_out,
        "software": versions(*SOFTWARE),
    }


def stores_by_candidate(paths: Sequence[str], candidates: Sequence[str], cohorts: int) -> dict[str, list[Path]]:
    """Groups the rule's input, which lists all cohorts of the first candidate, then of the second, and so on."""
    if len(paths) != len(candidates) * cohorts:
        raise ValueError(f"{len(paths)} stores for {len(candidates)} candidates and {cohorts} cohorts")
    return {name: [Path(p) for p in paths[i * cohorts : (i + 1) * cohorts]] for i, name in enumerate(candidates)}
