"""Training ECTIL on 100 bags, against plainer ways to the same end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from slidestudy.models.mil import build_model
from slidestudy.models.prediction import predict_slide
from slidestudy.models.training import Example, train_fold
from tests.benchmarks.timing import seconds
from tests.models.builders import RECIPE, make_bag, planted_features

pytestmark = pytest.mark.bench
BAGS, TILES, DIM, EPOCHS = 100, 300, 128, 10
SIZES = {"hidden": 128, "attention": 64, "dropout": 0.4, "tile_dropout": 0.1}
TRAINING = {**RECIPE, **SIZES, "learning_rate": 0.002, "batch_size": 16, "epochs": EPOCHS, "patience": EPOCHS}


def examples(count: int, seed: int) -> list[Example]:
    rng, made = np.random.default_rng(seed), []
    for i in range(count):
        fraction = rng.uniform(0, 1)
        made.append(Example(make_bag(planted_features(rng, fraction, TILES, DIM), f"s{i}"), fraction))
    return made


def plain_loop(train: list[Example]) -> torch.nn.Module:
    """One optimiser step per bag, no validation, no standardising: the loop of a MIL tutorial."""
    torch.manual_seed(0)
    model = build_model({"aggregator": "ectil", "dim": DIM, **SIZES}).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=TRAINING["learning_rate"])
    for _ in range(EPOCHS):
        for example in train:
            optimiser.zero_grad()
            (model(example.bag.features).slide - example.target).square().backward()
            optimiser.step()
    return model.eval()


def correlation(predicted: list[float] | np.ndarray, held_out: list[Example]) -> float:
    return float(np.corrcoef(predicted, [e.target for e in held_out])[0, 1])


def test_training_against_a_plain_loop_and_ridge(table):
    train, validation, held_out = examples(BAGS, 1), examples(20, 2), examples(60, 3)
    made: dict[str, torch.nn.Module] = {}
    found: dict[str, float] = {}

    def ours():
        trained = train_fold(train, validation, task="regression", aggregator="ectil", recipe=TRAINING, seed=0)
        made["ours"] = build_model(trained.architecture)
        made["ours"].load_state_dict(dict(trained.state))
        made["ours"].eval()

    def loop():
        made["plain loop"] = plain_loop(train)

    def ridge():
        def means(bags: list[Example]) -> np.ndarray:
            return np.stack([e.bag.features.float().mean(0).numpy() for e in bags])

        model = RidgeCV(np.logspace(-3, 3, 13)).fit(means(train), [e.target for e in train])
        found["ridge"] = correlation(model.predict(means(held_out)), held_out)

    times = {"ours": seconds(ours, 2), "loop": seconds(loop, 2), "ridge": seconds(ridge, 2)}
    for name, model in made.items():
        found[name] = correlation([predict_slide([model], e.bag).output for e in held_out], held_out)
    what = f"training ECTIL, {BAGS} bags x {TILES} tiles x {DIM}, {EPOCHS} epochs"
    table.add(
        f"{what} (r {found['ours']:.2f})",
        times["ours"],
        times["loop"],
        f"one step per bag (r {found['plain loop']:.2f})",
    )
    table.add(what, times["ours"], times["ridge"], f"scikit-learn ridge on bag means (r {found['ridge']:.2f})")
    assert found["ours"] > 0.8
