"""A fold on disk: what is read is what was saved, and anything else is refused in words."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from slidestudy.errors import StudyError
from slidestudy.models.checkpoint import load_ensemble, load_fold, load_members, save_fold
from slidestudy.models.mil import build_model
from slidestudy.models.targets import Classification
from slidestudy.models.training import HISTORY, Trained

ARCHITECTURE = {"aggregator": "ectil", "dim": 5, "hidden": 6, "attention": 4, "dropout": 0.4, "tile_dropout": 0.1}

TASK = Classification(("target",))
CALIBRATION = {"method": "temperature", "temperature": 1.5}


def fold(seed: int = 0) -> Trained:
    torch.manual_seed(seed)
    history = pd.DataFrame([[1, 0.5, 0.4, 0.1, 0.01, 1], [2, 0.3, 0.5, 0.05, 0.01, 0]], columns=HISTORY)
    state = build_model(ARCHITECTURE).state_dict()
    return Trained(state, ARCHITECTURE, history, {"youden": 0.37}, 1, seed, TASK.card(), CALIBRATION)


@pytest.fixture
def saved(tmp_path):
    save_fold(tmp_path / "fold-0", fold(), {"recipe": "r1", "fold": 0})
    return tmp_path / "fold-0"


def test_a_fold_comes_back_as_it_was_saved(saved):
    model, card = load_fold(saved)
    assert all(torch.equal(value, fold().state[key]) for key, value in model.state_dict().items())
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert card == {
        "recipe": "r1",
        "fold": 0,
        "members": 1,
        "seed": 0,
        "architecture": ARCHITECTURE,
        "task_card": {"name": "classification", "columns": ["target"]},
        "thresholds": {"youden": 0.37},
        "calibration": CALIBRATION,
        "best_epoch": 1,
    }
    pd.testing.assert_frame_equal(pd.read_csv(saved / "history.tsv", sep="\t"), fold().history)


def test_a_fold_that_fails_while_saved_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_fold(tmp_path / "fold-0", fold(), {"recipe": object()})
    assert list(tmp_path.iterdir()) == []


def _without_weights(folder):
    (folder / "model.safetensors").unlink()


def _without_card(folder):
    (folder / "model.json").unlink()


def _truncated_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _broken_card(folder):
    (folder / "model.json").write_text("{", encoding="utf-8")


def _edited_architecture(key, value):
    def edit(folder):
        card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        card["architecture"][key] = value
        (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        _without_weights,
        _without_card,
        _truncated_weights,
        _broken_card,
        _edited_architecture("hidden", 7),
        _edited_architecture("wings", 2),
    ],
)
def test_a_damaged_fold_is_refused_and_named(saved, damage):
    damage(saved)
    with pytest.raises(StudyError, match=r"fold-0: is no trained fold"):
        load_fold(saved)


def test_folds_of_different_recipes_make_no_ensemble(saved, tmp_path):
    save_fold(tmp_path / "fold-1", fold(1), {"recipe": "r2", "fold": 1})
    with pytest.raises(StudyError, match=r"different feature recipes \['r1', 'r2'\]"):
        load_ensemble([str(saved), str(tmp_path / "fold-1")])


def test_an_ensemble_keeps_the_order_of_its_folds(saved, tmp_path):
    save_fold(tmp_path / "fold-1", fold(1), {"recipe": "r1", "fold": 1})
    folds = load_ensemble([str(saved), str(tmp_path / "fold-1")])
    assert [[card["fold"] for _, card in members] for members in folds] == [[0], [1]]
    assert torch.equal(folds[1][0][0].state_dict()["classifier.weight"], fold(1).state["classifier.weight"])


def test_every_seed_of_a_fold_comes_back_the_first_one_first(tmp_path):
    save_fold(tmp_path / "fold-0", [fold(4), fold(9), fold(2)], {"recipe": "r1", "fold": 0})
    members = load_members(tmp_path / "fold-0")
    assert [card["seed"] for _, card in members] == [4, 9, 2]
    for (model, _), seed in zip(members, (4, 9, 2), strict=True):
        assert torch.equal(model.state_dict()["classifier.weight"], fold(seed).state["classifier.weight"])
    assert {p.name for p in (tmp_path / "fold-0").iterdir()} >= {"seed-1", "seed-2", "model.json", "curves.svg"}
    (tmp_path / "fold-0" / "seed-2" / "model.json").unlink()
    with pytest.raises(StudyError, match="seed-2: is no trained fold"):
        load_members(tmp_path / "fold-0")


def test_curves_are_drawn_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        save_fold(tmp_path / name, [fold(4), fold(9)], {"recipe": "r1"})
    first, second = ((tmp_path / name / "curves.svg").read_bytes() for name in ("a", "b"))
    assert first == second
    assert b"validation seed 9" in first
