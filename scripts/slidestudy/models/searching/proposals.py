"""Settings that optuna proposes, and the journal of the trials that are done.

A proposal depends on the seed, the number of the trial and the trials before it, never on how often the search was
killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from slidestudy.files import remove
from slidestudy.models.loading import seed_of
from slidestudy.search_space import is_integer

PROPOSAL = 203
"""Key of the draw of a trial's setting."""
SAMPLERS: dict[str, Any] = {
    # Without the liar, which counts trials under way in other processes: there are none.
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=False),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
"""Tree-structured Parzen estimator (Bergstra et al. 2011, its first ten trials random), or random search."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        scores: Of the inner test parts that were judged, None where undefined.
        reason: Why the trial failed; blank where it did not.
    """

    scores: tuple[float | None, ...]
    reason: str = ""

    @property
    def value(self) -> float:
        """The mean of the scores that are defined."""
        return float(np.mean([score for score in self.scores if score is not None]))


def distributions_of(space: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The space as optuna takes it; values of lists are their JSON, as optuna holds 1 and true for the same."""
    found: dict[str, BaseDistribution] = {}
    for key, values in space.items():
        if not isinstance(values, Mapping):
            found[key] = CategoricalDistribution([json.dumps(value) for value in values])
        elif is_integer(key, values["low"], values["high"]):
            found[key] = IntDistribution(int(values["low"]), int(values["high"]), log=values.get("log", False))
        else:
            found[key] = FloatDistribution(values["low"], values["high"], log=values.get("log", False))
    return found


def setting_of(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The setting that optuna's parameters stand for."""
    lists = {key for key, distribution in distributions.items() if isinstance(distribution, CategoricalDistribution)}
    return {key: json.loads(params[key]) if key in lists else params[key] for key in distributions}


def propose(
    distributions: Mapping[str, BaseDistribution], sampler: str, seed: int, done: Sequence[FrozenTrial]
) -> dict[str, Any]:
    """The parameters of the next trial.

    Args:
        distributions: The space.
        sampler: A key of SAMPLERS.
        seed: The search's seed.
        done: The trials before it, by number.
    """
    study = optuna.create_study(
        direction="maximize", sampler=SAMPLERS[sampler](seed_of(PROPOSAL, seed, len(done)) % 2**32)
    )
    study.add_trials(done)
    return dict(study.ask(dict(distributions)).params)


class Journal:
    """The finished trials of one search, in optuna's journal of a file; it outlives a killed job.

    Args:
        path: The file. One process at a time has it.
        mark: What the search depends on; trials of another search in the same file do not count.
    """

    def __init__(self, path: Path, mark: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # What a killed job may leave: its lock, and half a line.
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        if path.is_file():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        try:
            self._study = _open_study(path, mark)
        except (ValueError, KeyError, TypeError, optuna.exceptions.OptunaError):
            # A damaged journal is as none.
            remove(path)
            self._study = _open_study(path, mark)

    def trials(self) -> list[FrozenTrial]:
        """The finished trials by number."""
        return self._study.get_trials(deepcopy=False)

    def add(self, params: dict[str, Any], distributions: dict[str, BaseDistribution], outcome: Outcome) -> None:
        """Writes down a finished trial."""
        failed = bool(outcome.reason)
        trial = create_trial(
            params=params,
            distributions=distributions,
            # Samplers learn nothing of a failed trial, but of a pruned one that it is among the worst.
            state=TrialState.PRUNED if failed else TrialState.COMPLETE,
            value=None if failed else outcome.value,
            user_attrs={"scores": list(outcome.scores), "reason": outcome.reason},
        )
        self._study.add_trial(trial)


def _open_study(path: Path, mark: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
    return optuna.create_study(study_name=mark, storage=storage, direction="maximize", load_if_exists=True)


def outcome_of(trial: FrozenTrial) -> Outcome:
    """The outcome that a journal tells of a trial."""
    return Outcome(tuple(trial.user_attrs["scores"]), trial.user_attrs["reason"])
