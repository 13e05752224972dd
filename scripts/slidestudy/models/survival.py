"""Tasks with a time to an event and censoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit

from slidestudy.errors import StudyError
from slidestudy.models.targets import Array, Predictions, Targets, Task, listed


@dataclass(frozen=True)
class Survival(Task):
    """Time to an event, with censoring; the risk is higher the sooner the event is expected."""

    @property
    def link(self) -> str:
        """None: the raw output is the risk."""
        return "identity"

    def risk(self, raw: Array) -> Array:
        """One number a slide, higher for a worse prognosis, (n,)."""
        return raw[:, 0]

    def predict(self, raw: Array) -> Predictions:
        """The risk."""
        return {"prediction": self.risk(raw)}

    def score(self, raw: Array, targets: Targets) -> float:
        """Harrell's C."""
        known = targets.mask.all(1).numpy()
        time, event = targets.values[known].double().numpy().T
        return concordance_index(time, event, self.risk(raw)[known])

    def problems(self, targets: Targets, part: str) -> list[str]:
        """Half a label, or nothing to rank."""
        partial = targets.mask.any(1) & ~targets.mask.all(1)
        slides = [s for s, odd in zip(targets.slide_ids, partial.tolist(), strict=True) if odd]
        found = [f"the {part} slides {listed(slides)} have a time or an event, not both"] if slides else []
        time, event = targets.values.double().numpy().T
        if not np.isfinite(concordance_index(time, event, np.zeros(len(time)))):
            found.append(f"the {part} part has no event before another slide's time: nothing can be ranked")
        return super().problems(targets, part) + found


@dataclass(frozen=True)
class CoxSurvival(Survival):
    """Cox's proportional hazards; one output, the logarithm of the relative hazard."""

    name: ClassVar[str] = "survival-cox"


@dataclass(frozen=True)
class DiscreteSurvival(Survival):
    """Hazards in bins of time (Gensheimer and Narasimhan 2019, PeerJ 7:e6257); an output for each, the hazard's logit.

    Attributes:
        cuts: Inner edges of the bins, in the unit of the time; bin k ends before `cuts[k]`, the last one is open.
    """

    name: ClassVar[str] = "survival-discrete"
    cuts: tuple[float, ...] = ()

    @property
    def n_outputs(self) -> int:
        """One for each bin."""
        return len(self.cuts) + 1

    @property
    def link(self) -> str:
        """The sigmoid, which gives hazards."""
        return "sigmoid"

    def survival(self, raw: Array) -> Array:
        """Probability of having no event by the end of each bin, (n, n_bins)."""
        return np.cumprod(expit(-raw), axis=1)

    def survival_at(self, raw: Array, times: Sequence[float]) -> Array:
        """Probability of having no event by given times, (n, n_times).

        It falls linearly from 1 at time 0 over the bins' edges, and stays from the last inner edge on, since the last
        bin is open.
        """
        edges = np.array([0.0, *self.cuts])
        curves = np.column_stack([np.ones(len(raw)), self.survival(raw)[:, :-1]])
        return np.array([np.interp(times, edges, curve) for curve in curves]).reshape(len(raw), len(times))

    def risk(self, raw: Array) -> Array:
        """1 - mean over the bins of the survival, (n,)."""
        return 1 - self.survival(raw).mean(1)

    def predict(self, raw: Array) -> Predictions:
        """The risk, and `survival.<time>`, the probability of no event by each inner edge."""
        return self.predict_at(raw, self.cuts)

    def predict_at(self, raw: Array, times: Sequence[float]) -> Predictions:
        """The risk, and `survival.<time>`, the probability of no event by each of given times."""
        survival = self.survival_at(raw, times)
        columns = {f"survival.{time:g}": survival[:, k] for k, time in enumerate(times)}
        return {"prediction": self.risk(raw), **columns}


def common_times(tasks: Sequence[DiscreteSurvival]) -> tuple[float, ...]:
    """Times at which models whose bins differ can be read together: the mean of each inner edge, to 4 digits.

    Bins are learnt from the training part, so that those of each fold are its own.

    Args:
        tasks: With the same number of bins.
    """
    edges = np.mean([task.cuts for task in tasks], axis=0)
    return tuple(dict.fromkeys(float(f"{edge:.4g}") for edge in edges))


def concordance_index(time: Array, event: Array, risk: Array) -> float:
    """Harrell's C: of pairs whose order is known, the share in which the earlier event has the higher risk.

    Pairs of equal risk count half; a pair is known if the earlier time is an event's (an event precedes a
    censoring at the same time).

    Args:
        time: (n,).
        event: 1 for an event, 0 for a censoring, (n,).
        risk: (n,).

    Returns:
        C, NaN without a known pair.
    """
    earlier = (time[:, None] < time) | ((time[:, None] == time) & (event == 0))
    known = earlier & (event[:, None] == 1)
    if not known.any():
        return float("nan")
    above, equal = risk[:, None] > risk, risk[:, None] == risk
    return float((known & above).sum() + 0.5 * (known & equal).sum()) / float(known.sum())


def time_cuts(train: pd.DataFrame, columns: Sequence[str], bins: int) -> tuple[float, ...]:
    """Inner edges of time bins that hold the same number of the training part's events; equal edges are merged."""
    time, event = columns
    events = train.loc[train[event] == 1, time].dropna().to_numpy(float)
    if len(events) < bins:
        what = f"the training part has {len(events)} events, {bins} time bins need as many"
        raise StudyError(what, f"labels, {event}", "use fewer time bins, or task survival-cox")
    return tuple(np.unique(np.quantile(events, np.arange(1, bins) / bins)).tolist())
