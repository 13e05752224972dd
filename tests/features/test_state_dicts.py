"""Keys of state dicts: renamed by rules, and loaded only where all fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.features.state_dicts import State, load_state, read_state, rename_keys

KEYS = st.lists(st.text("abc.1", min_size=1, max_size=8), unique=True, max_size=6)


def state(*keys: str) -> State:
    return {key: torch.tensor([float(i)]) for i, key in enumerate(keys)}


@given(KEYS)
def test_no_rule_leaves_all_and_a_catch_all_leaves_none(keys: list[str]) -> None:
    assert rename_keys(state(*keys), {}, "") == state(*keys)
    assert rename_keys(state(*keys), {"": None}, "") == {}


@given(KEYS)
def test_a_prefix_can_be_put_on_and_taken_off(keys: list[str]) -> None:
    there = rename_keys(state(*keys), {r"^": "net."}, "")
    assert all(key.startswith("net.") for key in there)
    assert rename_keys(there, {r"^net\.": ""}, "") == state(*keys)


def test_rules_are_applied_one_after_the_other() -> None:
    renamed = rename_keys(state("a.gamma", "b.gamma", "c"), {"^b": None, "gamma$": "weight", r"^(a)\.": r"x.\1."}, "")
    assert list(renamed) == ["x.a.weight", "c"]


@pytest.mark.parametrize("rules", [{"(": "x"}, {"a": r"\2"}])
def test_a_rule_that_is_none_is_named(rules: dict[str, str | None]) -> None:
    with pytest.raises(StudyError, match="cannot be applied") as caught:
        rename_keys(state("a"), rules, "encoder net")
    assert caught.value.problems[0].where == "encoder net"


def test_two_keys_cannot_become_one() -> None:
    with pytest.raises(StudyError, match="two keys become 'x'"):
        rename_keys(state("a", "b"), {"^.$": "x"}, "")


def test_counters_may_be_missing_and_are_left_as_they_are() -> None:
    model = nn.BatchNorm1d(2)
    given_state = {k: v + 1 for k, v in model.state_dict().items() if k != "num_batches_tracked"}
    load_state(model, given_state, "")
    assert model.num_batches_tracked is not None
    assert int(model.num_batches_tracked) == 0
    assert torch.equal(model.weight.detach(), given_state["weight"])


def test_another_layout_is_converted_only_where_it_is_needed_and_fits() -> None:
    calls = []

    def convert(weights: State, model: nn.Module) -> State:
        calls.append(model)
        return {key.removeprefix("old."): value for key, value in weights.items()}

    model, wanted = nn.Linear(2, 2), nn.Linear(2, 2).state_dict()
    load_state(model, wanted, "", convert)
    assert calls == []
    load_state(model, {f"old.{k}": v for k, v in wanted.items()}, "", convert)
    assert torch.equal(model.weight, wanted["weight"])
    with pytest.raises(StudyError, match="missing bias, missing weight, unknown other"):
        load_state(model, state("other"), "", convert)

    def fail(weights: State, model: nn.Module) -> State:
        raise KeyError("pos_embed")

    with pytest.raises(StudyError, match="unknown other"):
        load_state(model, state("other"), "", fail)


def test_prefixes_of_training_are_taken_off(tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.backbone.{k}": v for k, v in state("a", "b").items()}}, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth", "")) == ["a", "b"]
