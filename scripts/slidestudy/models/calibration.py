"""From raw outputs to what is reported: calibration from the validation part, thresholds, and ensembles with spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_curve

from slidestudy.errors import StudyError
from slidestudy.models.losses import ClassWeights, part_loss
from slidestudy.models.survival import DiscreteSurvival
from slidestudy.models.targets import (
    Array,
    Classification,
    Multiclass,
    Predictions,
    Regression,
    Targets,
    Task,
    UnboundedRegression,
)
from slidestudy.models.tasks import task_of

METHODS = ("none", "temperature", "isotonic")
LOG_TEMPERATURES = (-4.0, 4.0)
"""Bounds of the logarithm of a temperature."""


def fit_calibration(method: str, task: Task, raw: Array, targets: Targets) -> dict[str, Any] | None:
    """Fits a calibration to the validation part.

    Temperature (Guo et al. 2017, arXiv 1706.04599) divides the logits of classes by one number, that of the least
    cross-entropy. Isotonic regression maps the prediction (a probability or a quantity) to the mean label by a rising
    step function, read off linearly between its steps (scikit-learn).

    Args:
        method: One of METHODS.
        task: The task.
        raw: Raw outputs of the validation part (n, n_outputs).
        targets: Its labels.

    Returns:
        What `model.json` says of it; None for `none`.

    Raises:
        StudyError: The method does not go with the task.
    """
    if method == "none":
        return None
    if method == "temperature" and isinstance(task, Classification | Multiclass):
        return {"method": method, "temperature": fit_temperature(task, raw, targets)}
    single = isinstance(task, Classification | Regression) or (
        isinstance(task, UnboundedRegression) and task.n_outputs == 1
    )
    if method == "isotonic" and single:
        known = targets.mask[:, 0].numpy()
        predicted = task.predict(raw[known])["prediction"]
        model = IsotonicRegression(out_of_bounds="clip").fit(predicted, _labels(task, targets)[known])
        x, y = model.X_thresholds_.astype(float).tolist(), model.y_thresholds_.astype(float).tolist()
        return {"method": method, "x": x, "y": y}
    what = f"calibration '{method}' does not go with task {task.name}"
    remedy = "temperature is for classification and multiclass, isotonic for classification and one regression target"
    raise StudyError(what, "training.calibration", remedy)


def fit_temperature(task: Task, raw: Array, targets: Targets) -> float:
    """The temperature of the least cross-entropy, classes unweighted."""
    logits = torch.from_numpy(raw)

    def loss(log_temperature: float) -> float:
        return float(part_loss(task, logits / np.exp(log_temperature), targets, ClassWeights()))

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))


def _labels(task: Task, targets: Targets) -> Array:
    """Labels of one target in its own unit, (n,)."""
    values = targets.values.double().numpy()
    if isinstance(task, Regression):
        low, high = task.target_range
        return low + (high - low) * values[:, 0]
    if isinstance(task, UnboundedRegression):
        return task.means[0] + task.deviations[0] * values[:, 0]
    return values[:, 0]


def calibrated(task: Task, raw: Array, calibration: Mapping[str, Any] | None) -> Predictions:
    """Predictions in the target's unit, by column.

    Args:
        task: The task.
        raw: Raw outputs (n, n_outputs).
        calibration: As `fit_calibration` gives it.
    """
    if calibration is None:
        return task.predict(raw)
    if calibration["method"] == "temperature":
        return task.predict(raw / calibration["temperature"])
    predictions = task.predict(raw)
    predictions["prediction"] = np.interp(predictions["prediction"], calibration["x"], calibration["y"])
    return predictions


def youden_threshold(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float | None:
    """The threshold with the largest sensitivity + specificity (Youden 1950); None with one class only."""
    if len(np.unique(truth)) < 2:
        return None
    false_positive, true_positive, thresholds = roc_curve(truth, predicted, drop_intermediate=False)
    finite = np.isfinite(thresholds)
    return float(thresholds[finite][np.argmax((true_positive - false_positive)[finite])])


def frozen_thresholds(
    task: Task, raw: Array, targets: Targets, calibration: Mapping[str, Any] | None
) -> dict[str, float]:
    """Decision thresholds of the reported (calibrated) prediction, chosen on the validation part.

    Returns:
        `youden` of a classification; nothing for other tasks.
    """
    if not isinstance(task, Classification):
        return {}
    known = targets.mask[:, 0].numpy()
    predicted = calibrated(task, raw[known], calibration)["prediction"]
    found = youden_threshold(targets.values[:, 0].double().numpy()[known], predicted)
    return {} if found is None else {"youden": found}


def frozen_threshold(cards: Sequence[Mapping[str, Any]]) -> float:
    """The decision threshold of an ensemble: the mean of its members' Youden thresholds; NaN where none has one.

    Args:
        cards: The members' `model.json`.
    """
    found = [card["thresholds"]["youden"] for card in cards if "youden" in card.get("thresholds", {})]
    return float(np.mean(found)) if found else float("nan")


def member_predictions(card: Mapping[str, Any], raw: Array, times: Sequence[float] | None = None) -> Predictions:
    """What one trained model reports.

    Args:
        card: Its `model.json`.
        raw: Its raw outputs (n, n_outputs).
        times: survival-discrete: the times at which survival is told; None for the model's own.
    """
    task = task_of(card["task_card"])
    if isinstance(task, DiscreteSurvival) and times is not None:
        return task.predict_at(raw, times)
    return calibrated(task, raw, card.get("calibration"))


def combine(
    cards: Sequence[Mapping[str, Any]], raws: Sequence[Array], times: Sequence[float] | None = None
) -> tuple[Predictions, NDArray[np.float64]]:
    """What an ensemble over folds and seeds reports: the mean of its members' predictions, and their spread.

    Args:
        cards: The members' `model.json`.
        raws: Their raw outputs, each (n, n_outputs).
        times: See `member_predictions`; needed where the members' bins differ.

    Returns:
        Mean predictions by column (of classes: the class of the highest mean probability), and the standard
        deviation (n - 1) over the members of `prediction`, of its class's probability, or of several targets the
        mean of theirs, (n,); NaN with one member.
    """
    members = [member_predictions(card, raw, times) for card, raw in zip(cards, raws, strict=True)]
    numeric = [column for column, values in members[0].items() if values.dtype != object]
    stacked = {column: np.stack([member[column] for member in members]) for column in numeric}
    means: Predictions = {column: values.mean(0) for column, values in stacked.items()}
    alone = len(members) == 1
    spreads = {c: np.full(v.shape[1], np.nan) if alone else v.std(0, ddof=1) for c, v in stacked.items()}
    task = task_of(cards[0]["task_card"])
    if isinstance(task, Multiclass):
        probabilities = np.stack([means[f"probability.{name}"] for name in task.classes], 1)
        spread = np.stack([spreads[f"probability.{name}"] for name in task.classes], 1)
        return task.named(probabilities), spread[np.arange(len(spread)), probabilities.argmax(1)]
    if "prediction" in spreads:
        return means, spreads["prediction"]
    return means, np.mean(list(spreads.values()), axis=0)
