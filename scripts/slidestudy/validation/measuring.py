"""The metrics of one target on given draws of patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from slidestudy import agreement_statistics, statistics
from slidestudy.bca import leave_one_out
from slidestudy.binary_statistics import DECISIONS, expected_calibration_error
from slidestudy.censoring_statistics import auroc_by, integrated_brier, unos_c, usable_times
from slidestudy.delong import delong
from slidestudy.statistics import Array, Estimate, PatientDraws, Statistic
from slidestudy.survival_statistics import harrells_c, why_nothing_is_ranked
from slidestudy.validation.views import SURVIVAL, Cut, View, cuts, decision

PERCENTILE, BCA = "percentile", "bca"
"""Kinds of bootstrap intervals."""
CONTINUOUS: dict[str, Statistic] = {
    "pearson": statistics.pearson,
    "spearman": statistics.spearman,
    "ccc": agreement_statistics.concordance,
    "icc": agreement_statistics.intraclass_correlation,
    "mse": statistics.mean_squared_error,
    "mae": statistics.mean_absolute_error,
    "explained_variance": statistics.explained_variance,
    "r2": agreement_statistics.determination,
}
BINARY: dict[str, Statistic] = {"auroc": statistics.auroc, "average_precision": statistics.average_precision}
PROBABILITIES: dict[str, Statistic] = {"brier": statistics.mean_squared_error, "ece": expected_calibration_error}
"""Metrics of probabilities; the Brier score (1950, Mon Weather Rev 78:1) is their mean squared error."""
DELONG = "auroc_delong"
OF_CLASSES = ("sensitivity", "specificity", "ppv", "npv", "f1")
"""Decisions of a model of several classes that are told of each class against the rest."""
NO_THRESHOLD = "no threshold: the validation parts have one class only"


@dataclass(frozen=True)
class Measured:
    """A metric on the rows of a level.

    Attributes:
        metric: Its name.
        estimate: Its value and interval.
        patients: Patients of the rows, each once.
        target: The target or class; empty for the model's only one, and for a summary.
        threshold: The cut-off, where there is one.
        positive: Rows of class 1, or events, where that means something.
        targets: Targets or classes of a mean.
        replicates: The value in each bootstrap sample (b,).
    """

    metric: str
    estimate: Estimate
    patients: int
    target: str = ""
    threshold: float | None = None
    positive: int | None = None
    targets: int | None = None
    replicates: NDArray[np.float64] | None = None

    def row(self) -> dict[str, Any]:
        """The row of a table."""
        own = {"metric": self.metric, "target": self.target, "threshold": self.threshold, "n_patients": self.patients}
        return {**estimate_row(self.estimate), **own, "n_positive": self.positive, "n_targets": self.targets}


def estimate_row(estimate: Estimate, **rest: Any) -> dict[str, Any]:
    """A table row of an estimate."""
    keys = ("value", "ci_low", "ci_high", "undefined_reason")
    return {**rest, **{key: getattr(estimate, key) for key in keys}, "n": estimate.n}


class Sample:
    """The rows that metrics are measured on, with the draws of their patients."""

    def __init__(self, patients: ArrayLike, draws: PatientDraws, settings: Mapping[str, Any]) -> None:
        """Draws the weights of the rows.

        Args:
            patients: Patient of each row (n,).
            draws: The draws.
            settings: `confidence`, and `interval`; percentile where that is absent.
        """
        self._patients = np.asarray(patients)
        self.count = len(np.unique(self._patients))
        self._weights, self._confidence = draws.weights(self._patients), settings["confidence"]
        self._left_out = leave_one_out(self._patients) if settings.get("interval", PERCENTILE) == BCA else None

    def measure(
        self,
        name: str,
        statistic: Statistic,
        truth: ArrayLike,
        predicted: ArrayLike,
        why: Callable[[Array, Array], str] | None = None,
        **keys: Any,
    ) -> Measured:
        """A statistic of these rows.

        Args:
            name: The metric.
            statistic: The weighted statistic.
            truth: (n,).
            predicted: (n,).
            why: The reason for an undefined value.
            keys: Further attributes of `Measured`.
        """
        estimate, replicates = statistics.measure(
            statistic, truth, predicted, self._patients, self._weights, self._confidence, why, self._left_out
        )
        return Measured(name, estimate, self.count, replicates=replicates, **keys)


def measure_view(
    view: View, draws: PatientDraws, settings: Mapping[str, Any], only: str | None = None
) -> list[Measured]:
    """The metrics of one target, or only the one named.

    Args:
        view: The target.
        draws: Draws of patients, all of the view's among them.
        settings: `cutoffs cutoff_rule confidence interval`.
        only: The only metric that is wanted.
    """
    found: list[Measured] = []
    if view.kind == "survival":
        found += _of_times(view, draws, settings, only)
    if view.kind == "continuous":
        table = view.table
        sample = Sample(table["patient_id"].to_numpy(), draws, settings)
        wanted = CONTINUOUS if only is None else {name: CONTINUOUS[name] for name in [only] if name in CONTINUOUS}
        found += [
            sample.measure(name, statistic, table["truth"], table["prediction"], target=view.target)
            for name, statistic in wanted.items()
        ]
    for cut in cuts(view, settings):
        found += _of_times_by(view, cut, draws, settings) if view.kind == "survival" else []
        found += _of_cut(view, cut, draws, settings, only) if view.kind != "survival" else []
    return found


def _of_times(view: View, draws: PatientDraws, settings: Mapping[str, Any], only: str | None) -> list[Measured]:
    """Harrell's and Uno's C, and the integrated Brier score where there are survival curves."""
    table = view.table
    time, risk, event = (table[name].to_numpy(float) for name in ("truth", "prediction", "event"))
    sample = Sample(table["patient_id"].to_numpy(), draws, settings)
    keys = {"target": view.target, "positive": int(event.sum())}
    found = [sample.measure("c_index", harrells_c(event), time, risk, why_nothing_is_ranked, **keys)]
    if only is not None:
        return found
    until = max(settings["cutoffs"], default=None)
    uno = sample.measure("c_index_uno", unos_c(event, until), time, risk, why_nothing_is_ranked, **keys)
    found.append(replace(uno, threshold=until))
    curves = sorted((float(str(name).removeprefix(SURVIVAL)), name) for name in table if str(name).startswith(SURVIVAL))
    if curves:
        times, survival = [at for at, _ in curves], table[[name for _, name in curves]].to_numpy(float)
        statistic = integrated_brier(event, survival, times)
        end = {"threshold": times[usable_times(time, times)[-1]]} if usable_times(time, times) else {}
        reason = "fewer than two times of the survival curves within the follow-up"
        found.append(sample.measure("integrated_brier", statistic, time, risk, lambda *_: reason, **keys, **end))
    return found


def _of_times_by(view: View, cut: Cut, draws: PatientDraws, settings: Mapping[str, Any]) -> list[Measured]:
    """AUROC at a time, of those whose status then is known; the others' times tell how many were censored."""
    table, known = view.table, cut.table["patient_id"].to_numpy()
    if cut.threshold is None:
        return []
    time, risk, event = (table[name].to_numpy(float) for name in ("truth", "prediction", "event"))
    sample = Sample(table["patient_id"].to_numpy(), draws, settings)
    found = sample.measure("auroc", auroc_by(event, cut.threshold), time, risk, lambda *_: "one class only")
    estimate = replace(found.estimate, n=len(known)) if len(known) else Estimate(None, None, None, 0, "no rows")
    own: dict[str, Any] = {"target": view.target, "threshold": cut.threshold, "positive": int(cut.positive.sum())}
    return [replace(found, estimate=estimate, patients=len(np.unique(known)), **own)]


def _of_cut(view: View, cut: Cut, draws: PatientDraws, settings: Mapping[str, Any], only: str | None) -> list[Measured]:
    """The metrics of a question of yes or no."""
    patients, score = cut.table["patient_id"].to_numpy(), cut.table["prediction"]
    sample = Sample(patients, draws, settings)
    keys: dict[str, Any] = {"target": view.target, "threshold": cut.threshold, "positive": int(cut.positive.sum())}
    wanted = {**BINARY, **(PROBABILITIES if view.kind == "binary" else {})}
    if only is not None:
        return [sample.measure(only, wanted[only], cut.positive, score, **keys)]
    found = [sample.measure(name, wanted[name], cut.positive, score, **keys) for name in BINARY]
    estimate = delong(cut.positive, score, patients, settings["confidence"])
    found.append(Measured(DELONG, estimate, sample.count, **keys))
    if view.kind == "binary":
        found += [sample.measure(name, PROBABILITIES[name], cut.positive, score, **keys) for name in PROBABILITIES]
    return found + _of_decision(view, cut, draws, settings)


def _of_decision(view: View, cut: Cut, draws: PatientDraws, settings: Mapping[str, Any]) -> list[Measured]:
    """What the decisions at a frozen threshold are worth."""
    said = decision(view, cut, settings)
    if said is None:
        return []
    positive = cut.positive[said.rows]
    sample = Sample(cut.table.loc[said.rows, "patient_id"].to_numpy(), draws, settings)
    keys = {"target": view.target, "threshold": said.threshold, "positive": int(positive.sum())}
    found = _decided(DECISIONS, sample, positive, said.positive, keys)
    if len(cut.table) and not said.rows.any():
        nothing = Estimate(None, None, None, 0, NO_THRESHOLD)
        found = [replace(measured, estimate=nothing) for measured in found]
    return found


def _decided(
    names: Sequence[str] | Mapping[str, Any], sample: Sample, truth: ArrayLike, said: ArrayLike, keys: Mapping[str, Any]
) -> list[Measured]:
    """Metrics of decisions of 0 or 1."""
    return [
        sample.measure(name, DECISIONS[name][0], truth, said, lambda *_, reason=DECISIONS[name][1]: reason, **keys)
        for name in names
    ]


def measure_classes(found: Sequence[View], draws: PatientDraws, settings: Mapping[str, Any]) -> list[Measured]:
    """Decisions of a model of several classes: the most probable class is the one predicted.

    Args:
        found: The views of all classes of a level.
        draws: Draws of patients.
        settings: `confidence interval`.

    Returns:
        Balanced accuracy over the classes; then, of each class against the rest, OF_CLASSES.
    """
    nothing = Measured("balanced_accuracy", Estimate(None, None, None, 0, "no rows"), 0)
    if not found:
        return [nothing]
    table: pd.DataFrame = found[0].table
    truths = np.column_stack([view.table["truth"] for view in found])
    probabilities = np.column_stack([view.table["prediction"] for view in found])
    chosen = probabilities.argmax(1) if len(table) else np.zeros(0, np.intp)
    # Classes that the model does not know are one more class, which it always misses.
    truth = np.where(truths.any(1), truths.argmax(1), truths.shape[1])
    sample = Sample(table["patient_id"].to_numpy(), draws, settings)
    rows = [
        sample.measure("balanced_accuracy", statistics.balanced_accuracy, truth, chosen, lambda *_: "one class only")
    ]
    for place, view in enumerate(found):
        own = truth == place
        keys = {"target": view.target, "positive": int(own.sum())}
        rows += _decided(OF_CLASSES, sample, own, chosen == place, keys)
    return rows
