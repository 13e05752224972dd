"""Tasks: from labels to tensors, from raw outputs to predictions, and what a good epoch is.

Everything that a task learns from labels (moments, classes, time bins) it learns from the training part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax

from slidestudy import statistics
from slidestudy.errors import StudyError
from slidestudy.labels import class_name

Array = NDArray[np.float64]
Predictions = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Targets:
    """The labels of some slides, as a loss takes them.

    Attributes:
        slide_ids: The slides.
        values: float32 (n_slides, n_values); what they mean is the task's. Survival: time and event (1 or 0).
        mask: Whether a label is there, bool (n_slides, n_values); values elsewhere are 0.
    """

    slide_ids: tuple[str, ...]
    values: torch.Tensor
    mask: torch.Tensor

    def __len__(self) -> int:
        return len(self.slide_ids)


@dataclass(frozen=True)
class Task(ABC):
    """A task.

    Attributes:
        columns: The label columns that it reads; of survival the time and the event.
    """

    name: ClassVar[str]
    columns: tuple[str, ...]

    @property
    def n_outputs(self) -> int:
        """Length of a model's raw output for a slide."""
        return 1

    def encode(self, labels: pd.DataFrame) -> Targets:
        """The labels of slides as tensors.

        Args:
            labels: `slide_id` and the task's columns; a blank is a missing label.
        """
        values = labels[list(self.columns)].to_numpy(float)
        mask = np.isfinite(values)
        scaled = np.where(mask, self._scale(np.where(mask, values, 0.0)), 0.0)
        return Targets(tuple(labels["slide_id"]), torch.tensor(scaled, dtype=torch.float32), torch.tensor(mask))

    def _scale(self, values: Array) -> Array:
        """Labels in the unit of the loss, (n, n_columns)."""
        return values

    @property
    def link(self) -> str:
        """From raw outputs to scores of slides and tiles: a key of `prediction.LINKS`."""
        return "sigmoid"

    @abstractmethod
    def predict(self, raw: Array) -> Predictions:
        """Predictions in the target's unit, by column of the table of predictions.

        Args:
            raw: Raw outputs (n_slides, n_outputs).
        """

    @abstractmethod
    def score(self, raw: Array, targets: Targets) -> float:
        """What the epoch is chosen by on the validation part, higher is better; NaN where undefined."""

    def problems(self, targets: Targets, part: str) -> list[str]:
        """Why a part of a fold (`train` or `validation`) is of no use; empty if it is."""
        unlabelled = [s for s, known in zip(targets.slide_ids, targets.mask.any(1).tolist(), strict=True) if not known]
        return [f"the {part} slides {listed(unlabelled)} have no label"] if unlabelled else []

    def card(self) -> dict[str, Any]:
        """What `model.json` says of the task; `task_of` reads it."""
        return {"name": self.name, **{key: _plain(value) for key, value in asdict(self).items()}}


@dataclass(frozen=True)
class Regression(Task):
    """A score between two bounds; one output, whose sigmoid is the fraction of the range (ECTIL).

    Attributes:
        target_range: The lowest and the highest possible score.
    """

    name: ClassVar[str] = "regression"
    target_range: tuple[float, float] = (0.0, 1.0)

    def _scale(self, values: Array) -> Array:
        low, high = self.target_range
        return (values - low) / (high - low)

    def predict(self, raw: Array) -> Predictions:
        """The score in its unit."""
        low, high = self.target_range
        return {"prediction": low + (high - low) * expit(raw[:, 0])}

    def score(self, raw: Array, targets: Targets) -> float:
        """Explained variance."""
        known = targets.mask[:, 0].numpy()
        return _statistic(
            statistics.explained_variance, targets.values[:, 0].double().numpy()[known], expit(raw[known, 0])
        )

    def problems(self, targets: Targets, part: str) -> list[str]:
        """Missing labels, or a constant score."""
        return super().problems(targets, part) + _constant(targets, self.columns, part)


@dataclass(frozen=True)
class UnboundedRegression(Task):
    """Quantities without bounds, one or several; an output for each, in standard deviations of the training part.

    Attributes:
        means: Mean of each label over the training slides that have it.
        deviations: Its standard deviation; 1 where it is constant.
    """

    name: ClassVar[str] = "multi-regression"
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()

    @property
    def n_outputs(self) -> int:
        """One for each target."""
        return len(self.columns)

    @property
    def link(self) -> str:
        """None: raw outputs are quantities in standard deviations."""
        return "identity"

    def _scale(self, values: Array) -> Array:
        return (values - np.array(self.means)) / np.array(self.deviations)

    def predict(self, raw: Array) -> Predictions:
        """`prediction` in its unit, or `prediction.<target>` of several."""
        found = np.array(self.means) + raw * np.array(self.deviations)
        if len(self.columns) == 1:
            return {"prediction": found[:, 0]}
        return {f"prediction.{column}": found[:, k] for k, column in enumerate(self.columns)}

    def score(self, raw: Array, targets: Targets) -> float:
        """Mean explained variance over the targets for which it is defined."""
        values, mask = targets.values.double().numpy(), targets.mask.numpy()
        scores = [
            _statistic(statistics.explained_variance, values[mask[:, k], k], raw[mask[:, k], k])
            for k in range(len(self.columns))
        ]
        return _mean_defined(scores)

    def problems(self, targets: Targets, part: str) -> list[str]:
        """Missing labels, or constant targets; a validation part may lack some of many targets."""
        constant = _constant(targets, self.columns, part)
        return super().problems(targets, part) + (constant if part == "train" or len(self.columns) == 1 else [])


@dataclass(frozen=True)
class Classification(Task):
    """A label of 0 or 1; one output, the logit of class 1."""

    name: ClassVar[str] = "classification"

    def predict(self, raw: Array) -> Predictions:
        """The probability of class 1."""
        return {"prediction": expit(raw[:, 0])}

    def score(self, raw: Array, targets: Targets) -> float:
        """AUROC."""
        known = targets.mask[:, 0].numpy()
        return _statistic(statistics.auroc, targets.values[:, 0].double().numpy()[known], raw[known, 0])

    def problems(self, targets: Targets, part: str) -> list[str]:
        """Missing labels, or one class only."""
        found = sorted({int(v) for v in targets.values[targets.mask].tolist()})
        one = [f"the {part} part has slides of class {found[0]} only"] if len(found) == 1 else []
        return super().problems(targets, part) + one


@dataclass(frozen=True)
class Multiclass(Task):
    """One of several classes; an output for each, the logits of a softmax.

    Attributes:
        classes: Their names, sorted.
    """

    name: ClassVar[str] = "multiclass"
    classes: tuple[str, ...] = ()

    @property
    def n_outputs(self) -> int:
        """One for each class."""
        return len(self.classes)

    @property
    def link(self) -> str:
        """The softmax over classes."""
        return "softmax"

    def encode(self, labels: pd.DataFrame) -> Targets:
        """Class numbers.

        Raises:
            StudyError: A class is none of the task's.
        """
        names = labels[self.columns[0]].map(class_name)
        unknown = sorted(set(names.dropna()) - set(self.classes))
        if unknown:
            slides = labels.loc[names.isin(unknown), "slide_id"].tolist()
            what = f"slides {listed(slides)} are of class {', '.join(unknown)}, which no training slide has"
            raise StudyError(
                what, f"labels, {self.columns[0]}", "use fewer folds, or merge or leave out the rare class"
            )
        mask = names.notna().to_numpy()
        numbers = [self.classes.index(name) if known else 0 for name, known in zip(names, mask, strict=True)]
        values = torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)
        return Targets(tuple(labels["slide_id"]), values, torch.tensor(mask).unsqueeze(1))

    def predict(self, raw: Array) -> Predictions:
        """The most probable class, and `probability.<class>` of each."""
        return self.named(softmax(raw, axis=1))

    def named(self, probabilities: Array) -> Predictions:
        """The table's columns of class probabilities (n, n_classes)."""
        best = np.array(self.classes, dtype=object)[probabilities.argmax(1)]
        return {"prediction": best, **{f"probability.{c}": probabilities[:, k] for k, c in enumerate(self.classes)}}

    def score(self, raw: Array, targets: Targets) -> float:
        """Mean AUROC of each class against the rest, over the classes for which it is defined."""
        known = targets.mask[:, 0].numpy()
        truth, probabilities = targets.values[:, 0].numpy()[known], softmax(raw[known], axis=1)
        scores = [
            _statistic(statistics.auroc, (truth == k).astype(float), probabilities[:, k])
            for k in range(len(self.classes))
        ]
        return _mean_defined(scores)

    def problems(self, targets: Targets, part: str) -> list[str]:
        """Missing labels, or one class only."""
        found = {int(v) for v in targets.values[targets.mask].tolist()}
        one = [f"the {part} part has slides of class {self.classes[min(found)]} only"] if len(found) == 1 else []
        return super().problems(targets, part) + one


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names, the first few."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _statistic(statistic: statistics.Statistic, truth: Array, predicted: Array) -> float:
    return float(statistic(truth, predicted, np.ones((1, len(truth))))[0]) if len(truth) else float("nan")


def _mean_defined(scores: Sequence[float]) -> float:
    defined = [score for score in scores if np.isfinite(score)]
    return float(np.mean(defined)) if defined else float("nan")


def _constant(targets: Targets, columns: Sequence[str], part: str) -> list[str]:
    """A problem for each target that is the same in all slides of a part."""
    found = []
    for k, column in enumerate(columns):
        values = targets.values[targets.mask[:, k], k]
        if len(values) == 0:
            found.append(f"no slide of the {part} part has the target '{column}'")
        elif bool((values == values[0]).all()):
            found.append(f"the target '{column}' is the same in all {len(values)} slides of the {part} part")
    return found
