"""Search of hyper-parameters within a fold: settings are proposed one after the other, and judged on inner folds.

What is done lies in a journal beside the output, which a killed search goes on from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from slidestudy.errors import Problem, StudyError
from slidestudy.features.store import read_attributes
from slidestudy.files import digest, versions
from slidestudy.models.loading import seed_of
from slidestudy.models.mil import AGGREGATORS, aggregator_options
from slidestudy.models.optimisation import pick_device
from slidestudy.models.resuming import forget, resume_folder
from slidestudy.models.searching.nested import InnerFold, inner_splits, judge_setting, open_inner_folds
from slidestudy.models.searching.outcome import SearchResult, with_setting
from slidestudy.models.searching.proposals import Journal, Outcome, distributions_of, outcome_of, propose, setting_of
from slidestudy.models.training import UNSEEN_KEYS, Log
from slidestudy.search_space import recipe_schemas
from slidestudy.tables import did_you_mean

COMPLETE, FAILED = "complete", "failed"


def check_space(space: Mapping[str, Any], aggregator: str, where: str) -> None:
    """Refuses keys that change nothing of a model: all of them at once, before any trial.

    Args:
        space: The space; the values of the recipe's keys have been checked (`search_space.space_problems`).
        aggregator: The aggregator.
        where: The place, for the message.

    Raises:
        StudyError: Keys that are neither of the recipe nor options of the aggregator.
    """
    options = aggregator_options(aggregator)
    every = {option for name in AGGREGATORS for option in aggregator_options(name)}
    known = [key for key in recipe_schemas() if key not in every or key in options]
    known += [option for option in options if option not in known]
    problems = [
        Problem(f"{where}.{key}", f"neither the recipe nor {aggregator} has a '{key}'", did_you_mean(key, known))
        for key in space
        if key not in known
    ]
    if problems:
        raise StudyError.of(problems)


def run_trial(folds: Sequence[InnerFold], settings: Mapping[str, Any], where: str, resume: Path) -> Outcome:
    """Judges a setting on all inner folds; one that cannot be trained fails with its reason.

    Args:
        folds: The inner folds.
        settings: The model's settings, the setting among them.
        where: The place, for messages.
        resume: Folder of what a killed training goes on from.
    """
    scores: list[float | None] = []
    for fold in folds:
        try:
            score = judge_setting(fold, settings, where, resume / f"inner-{fold.number}.pt")
        except StudyError as error:
            what = " ".join("; ".join(problem.what for problem in error.problems).split())
            return Outcome(tuple(scores), f"inner fold {fold.number}: {what}")
        except torch.cuda.OutOfMemoryError:
            return Outcome(tuple(scores), f"inner fold {fold.number}: the GPU's memory does not hold it")
        scores.append(score if math.isfinite(score) else None)
    undefined = all(score is None for score in scores)
    return Outcome(tuple(scores), "the score is undefined in every inner test part" if undefined else "")


def search_fold(
    splits: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    fold: int,
    settings: Mapping[str, Any],
    search: Mapping[str, Any],
    *,
    output: Path,
    lookalikes: pd.DataFrame | None = None,
    log: Log = print,
) -> SearchResult:
    """Searches the best setting of one fold, on its training and validation parts; the test part is not read.

    Args:
        splits: `slide_id fold part`.
        labels: `slide_id patient_id cohort center`, the labels and covariates.
        stores: Feature stores of the development cohorts, named by their slides.
        fold: The fold.
        settings: The model's settings.
        search: `space trials inner_folds sampler seed`.
        output: The search's output, beside which a killed search finds where it was (`resuming.resume_folder`).
        lookalikes: Pairs of patients with look-alike slides.
        log: Takes a line for each trial.

    Raises:
        StudyError: The space has unknown keys, the parts cannot be dealt into inner folds, or every trial failed.
    """
    name, key = settings["name"], f"models.{settings['name']}.search"
    check_space(search["space"], settings["aggregator"], f"{key}.space")
    inner = inner_splits(splits, labels, fold, settings, search["inner_folds"], lookalikes)
    folds = open_inner_folds(inner, labels, stores, fold, settings)
    distributions, seed = distributions_of(search["space"]), seed_of(search["seed"], fold)
    resume = resume_folder(output)
    journal = Journal(resume / "trials.journal", _fingerprint(inner, labels, stores, folds[0], settings, search))
    while (number := len(journal.trials())) < search["trials"]:
        done = journal.trials()
        params = propose(distributions, search["sampler"], seed, done)
        setting = setting_of(params, distributions)
        # The same setting would come to the same again.
        outcome = next((outcome_of(trial) for trial in done if trial.params == params), None)
        if outcome is None:
            where = f"model {name}, fold {fold}, trial {number}"
            outcome = run_trial(folds, with_setting(settings, setting), where, resume)
        journal.add(params, distributions, outcome)
        log(f"fold {fold}, trial {number}: {setting} -> {outcome.reason or format(outcome.value, '.4g')}")
    trials = journal.trials()[: search["trials"]]
    if all(outcome_of(trial).reason for trial in trials):
        # What is mended outside the study's files must not meet the same failures again.
        forget(output)
    return _result(trials, distributions, f"{key}, fold {fold}")


def search_card(settings: Mapping[str, Any], search: Mapping[str, Any], fold: int) -> dict[str, Any]:
    """What `search.json` says beside the result."""
    said = {key: search[key] for key in ("sampler", "seed", "inner_folds", "space")}
    software = versions("optuna", "torch", "scikit-learn")
    return {"model": settings["name"], "fold": fold, **said, "software": software}


def _fingerprint(
    inner: pd.DataFrame,
    labels: pd.DataFrame,
    stores: Sequence[str],
    first: InnerFold,
    settings: Mapping[str, Any],
    search: Mapping[str, Any],
) -> str:
    """What a search's course depends on; not on the number of trials, which may be raised."""
    rows = labels[labels["slide_id"].isin(inner["slide_id"])].sort_values("slide_id")
    slides = set(inner["slide_id"])
    checksums = sorted(str(read_attributes(path)["checksum"]) for path in stores if Path(path).stem in slides)
    kept = {key: value for key, value in settings.items() if key != "training"}
    kept["training"] = {key: value for key, value in settings["training"].items() if key not in UNSEEN_KEYS}
    own = {key: value for key, value in search.items() if key != "trials"}
    tables = [table.to_csv(index=False) for table in (inner, rows)]
    parts = first.parts.values()
    covariates = [
        [] if part.covariates is None else list(map(repr, part.covariates.flatten().tolist())) for part in parts
    ]
    software = [versions("optuna", "torch", "scikit-learn"), str(pick_device())]
    return digest([tables, checksums, covariates, kept, own, software])


def _result(trials: Sequence[FrozenTrial], distributions: Mapping[str, BaseDistribution], where: str) -> SearchResult:
    """The best trial, the first of equals, and the table of all."""
    outcomes, settings = [outcome_of(t) for t in trials], [setting_of(t.params, distributions) for t in trials]
    whole = [number for number, outcome in enumerate(outcomes) if not outcome.reason]
    if not whole:
        reasons = "; ".join(dict.fromkeys(outcome.reason for outcome in outcomes))
        remedy = "mend what the reasons say, or search among other values"
        raise StudyError(f"all {len(trials)} trials failed: {reasons}", where, remedy)
    best = max(whole, key=lambda number: outcomes[number].value)
    most = max(len(outcome.scores) for outcome in outcomes)
    rows = [
        {
            "number": number,
            "state": FAILED if outcome.reason else COMPLETE,
            "value": None if outcome.reason else outcome.value,
            **{key: _cell(value) for key, value in setting.items()},
            **{f"score.{k}": outcome.scores[k] if k < len(outcome.scores) else None for k in range(most)},
            "best": int(number == best),
            "reason": outcome.reason,
        }
        for number, (outcome, setting) in enumerate(zip(outcomes, settings, strict=True))
    ]
    return SearchResult(settings[best], outcomes[best].value, best, pd.DataFrame(rows))


def _cell(value: Any) -> Any:
    """A value as a table holds it: numbers and text as they are, anything else as JSON."""
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return value if plain else json.dumps(value)
