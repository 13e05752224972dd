"""Proposals repeat whatever was killed, and the journal keeps what trials came to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slidestudy.models.searching.proposals import Journal, Outcome, distributions_of, outcome_of, propose, setting_of

SPACE = {
    "learning_rate": {"low": 1.0e-6, "high": 1.0, "log": True},
    "dropout": {"low": 0, "high": 0.5},
    "hidden": {"low": 4, "high": 64, "log": True},
    "tiles_per_epoch": [None, 10, 20],
    "flag": [True, 1, "1"],
}


def journal_of(path: Path, sampler: str, count: int) -> list[dict[str, Any]]:
    """Settings of a search whose score is the dropout; those with hidden below 10 fail."""
    distributions, settings = distributions_of(SPACE), []
    for number in range(count):
        # Opened anew for each trial, as after a kill.
        journal = Journal(path, "mark")
        assert len(journal.trials()) == number
        params = propose(distributions, sampler, 3, journal.trials())
        setting = setting_of(params, distributions)
        failed = setting["hidden"] < 10
        journal.add(params, distributions, Outcome((), "small") if failed else Outcome((setting["dropout"], None)))
        settings.append(setting)
    return settings


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_lie_in_the_space_and_repeat(tmp_path, sampler):
    """Beyond the ten trials that the estimator begins with."""
    settings = journal_of(tmp_path / "a", sampler, 16)
    assert settings == journal_of(tmp_path / "b", sampler, 16)
    for setting in settings:
        assert 1.0e-6 <= setting["learning_rate"] <= 1
        assert 0 <= setting["dropout"] <= 0.5
        assert isinstance(setting["dropout"], float)
        assert isinstance(setting["hidden"], int)
        assert 4 <= setting["hidden"] <= 64
        assert setting["tiles_per_epoch"] in (None, 10, 20)
    flags = {json.dumps(setting["flag"]) for setting in settings}
    assert 1 < len(flags & {"true", "1", '"1"'}) == len(flags)
    assert len({setting["learning_rate"] for setting in settings}) == 16


def test_the_estimator_learns_from_scores_and_failures(tmp_path):
    """Its later proposals have a higher score and fail less than those it begins with."""
    settings = journal_of(tmp_path / "a", "tpe", 40)
    early, late = settings[:10], settings[25:]
    assert np.mean([s["dropout"] for s in late]) > np.mean([s["dropout"] for s in early]) + 0.1
    assert np.mean([s["hidden"] < 10 for s in late]) < np.mean([s["hidden"] < 10 for s in early])


def test_a_journal_keeps_outcomes_and_is_of_one_search(tmp_path):
    distributions = distributions_of({"hidden": [8, 16]})
    outcomes = [Outcome((0.25, None, 1 / 3)), Outcome((0.5,), "inner fold 1: too bad")]
    journal = Journal(tmp_path / "j", "mark")
    for outcome in outcomes:
        journal.add({"hidden": "8"}, distributions, outcome)
    assert [outcome_of(trial) for trial in Journal(tmp_path / "j", "mark").trials()] == outcomes
    assert Journal(tmp_path / "j", "other").trials() == []


@pytest.mark.parametrize("damage", [b"", b"not a journal\n", b'{"op_code": 0}\n'])
def test_a_damaged_journal_is_as_none(tmp_path, damage):
    path = tmp_path / "j"
    Journal(path, "mark").add({"hidden": "8"}, distributions_of({"hidden": [8]}), Outcome((1.0,)))
    path.write_bytes(damage)
    assert Journal(path, "mark").trials() == []
