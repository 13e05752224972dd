"""Training: it learns what was planted, chooses by the validation part alone, and repeats byte for byte."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slidestudy.errors import StudyError
from slidestudy.models import epochs
from slidestudy.models.bags import feature_moments
from slidestudy.models.calibration import youden_threshold
from slidestudy.models.checkpoint import save_fold
from slidestudy.models.epochs import Part, Trainer
from slidestudy.models.loading import BagSource
from slidestudy.models.losses import contrastive_loss
from slidestudy.models.mil import build_model
from slidestudy.models.optimisation import DEFAULTS, rate_factor
from slidestudy.models.packing import pack
from slidestudy.models.targets import Task
from slidestudy.models.training import HISTORY, Trained, train_fold, train_members
from slidestudy.statistics import auroc
from tests.models.builders import RECIPE, TASKS, make_bag, make_part, planted_part

torch.set_num_threads(1)
AGGREGATOR = {"regression": "ectil", "classification": "gated-abmil"}
SILENT = lambda line: None  # noqa: E731


def fit_parts(train: Part, validation: Part, task: Task, aggregator: str = "ectil", seed: int = 3, **recipe) -> Trained:
    options = {key: recipe.pop(key) for key in ("resume", "where", "log") if key in recipe}
    common = {"aggregator": aggregator, "recipe": {**RECIPE, **recipe}, "seed": seed, "log": SILENT, **options}
    return train_fold(train, validation, task=task, **common)


def fit(task: str = "regression", seed: int = 3, count: int = 24, **recipe) -> Trained:
    parts = planted_part(count, 1, task), planted_part(12, 2, task)
    return fit_parts(*parts, TASKS[task], AGGREGATOR[task], seed, **recipe)


def outputs(trained: Trained, part: Part, task: str = "regression") -> np.ndarray:
    model = build_model(trained.architecture)
    model.load_state_dict(dict(trained.state))
    with torch.inference_mode():
        raw = model.eval()(pack([part.source.read(i) for i in range(len(part.targets))])).slide
    return TASKS[task].predict(raw.double().numpy())["prediction"]


def truths(part: Part) -> np.ndarray:
    return part.targets.values[:, 0].double().numpy()


def same_weights(first: Trained, second: Trained) -> bool:
    return all(torch.equal(first.state[key], second.state[key]) for key in first.state)


def test_a_planted_fraction_of_positive_tiles_is_learnt():
    held_out = planted_part(40, 9)
    assert np.corrcoef(outputs(fit(count=40), held_out), truths(held_out))[0, 1] > 0.85


def test_a_planted_class_is_learnt():
    held_out = planted_part(40, 9, "classification")
    predicted = outputs(fit("classification", count=40), held_out, "classification")
    assert auroc(truths(held_out), predicted, np.ones((1, 40)))[0] > 0.9


def test_shuffled_labels_give_results_at_chance():
    """Over 8 shuffles of the training and validation labels the held-out correlation has mean 0 within 3 errors."""
    held_out, found = planted_part(60, 9), []
    train, validation = planted_part(40, 1), planted_part(16, 2)
    rng = np.random.default_rng(0)

    def shuffled(part: Part) -> Part:
        order = torch.from_numpy(rng.permutation(len(part.targets)))
        return replace(part, targets=replace(part.targets, values=part.targets.values[order]))

    for _ in range(8):
        trained = fit_parts(shuffled(train), shuffled(validation), TASKS["regression"], epochs=12)
        found.append(np.corrcoef(outputs(trained, held_out), truths(held_out))[0, 1])
    straight = fit_parts(train, validation, TASKS["regression"], epochs=12)
    assert abs(np.mean(found)) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))
    assert np.corrcoef(outputs(straight, held_out), truths(held_out))[0, 1] > max(found)


def test_two_trainings_with_a_seed_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    """With dropout, tile draws and batches all at work."""
    digests = []
    for i, seed in enumerate([3, 3, 4]):
        trained = fit(seed=seed, epochs=6, tiles_per_epoch=20, tile_dropout=0.2)
        save_fold(tmp_path / str(i), trained, {"recipe": "r1"})
        files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / str(i)).iterdir())}
        digests.append(files)
    assert set(digests[0]) == {"model.safetensors", "model.json", "history.tsv", "curves.svg"}
    assert digests[0] == digests[1]
    assert digests[0]["model.safetensors"] != digests[2]["model.safetensors"]


def test_the_first_weights_depend_on_the_seed():
    """With steps of length zero the weights kept are those that training began with."""
    first, again, other = (fit(seed=seed, epochs=1, learning_rate=0.0).state for seed in (3, 3, 4))
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_training_in_between_does_not_change_a_training():
    first = fit(epochs=3)
    fit(seed=99, epochs=2)
    assert same_weights(first, fit(epochs=3))


def test_the_weights_kept_are_those_of_the_epoch_with_the_best_validation_score():
    trained = fit(epochs=25)
    history = trained.history
    assert trained.best_epoch == history["epoch"][history["validation_score"].argmax()]
    assert history.loc[history["best"] == 1, "epoch"].max() == trained.best_epoch
    validation = planted_part(12, 2)
    predicted = outputs(trained, validation)
    explained = 1 - np.var(truths(validation) - predicted) / np.var(truths(validation))
    assert explained == pytest.approx(history["validation_score"].max(), abs=1e-5)
    # Stopped at the best epoch, the same training ends with the same weights.
    assert same_weights(trained, fit(epochs=trained.best_epoch))


def test_of_epochs_that_score_the_same_the_first_is_kept():
    trained = fit("classification", epochs=12)
    scores = trained.history["validation_score"]
    assert (scores == scores.max()).sum() > 1
    assert trained.best_epoch == trained.history["epoch"][scores.argmax()]


def test_the_validation_part_is_not_trained_on():
    """Other validation labels change the chosen epoch and nothing of the course of training."""
    train, validation = planted_part(24, 1), planted_part(12, 2)
    opposite = replace(validation, targets=replace(validation.targets, values=1 - validation.targets.values))
    recipe = {"epochs": 12, "patience": 12}
    straight = fit_parts(train, validation, TASKS["regression"], **recipe)
    inverted = fit_parts(train, opposite, TASKS["regression"], **recipe)
    assert straight.history["train_loss"].tolist() == inverted.history["train_loss"].tolist()
    assert straight.best_epoch != inverted.best_epoch


def test_training_stops_once_patience_is_spent():
    history = fit(epochs=40, patience=3, learning_rate=0.05).history
    best = history.loc[history["best"] == 1, "epoch"].max()
    assert len(history) == best + 3 < 40


def test_history_has_one_row_per_epoch_and_the_loss_falls():
    history = fit(epochs=10).history
    assert list(history.columns) == HISTORY
    assert history["epoch"].tolist() == list(range(1, 11))
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_each_epoch_says_how_it_went():
    lines: list[str] = []
    fit(epochs=3, where="model m, fold 2", log=lines.append)
    assert len(lines) == 3
    assert lines[1].startswith("model m, fold 2 [#############-------] epoch 2/3, loss 0.")


@pytest.mark.parametrize(("standardise", "expected"), [(True, False), (False, True)])
def test_features_are_scaled_by_the_training_part_only_where_asked(standardise, expected):
    state = fit(epochs=1, standardise=standardise).state
    assert torch.equal(state["standardiser.mean"], torch.zeros(6)) is expected
    if standardise:
        source = planted_part(24, 1).source
        mean, deviation = feature_moments(source.read(i) for i in range(24))
        assert torch.equal(state["standardiser.mean"], mean)
        assert torch.equal(state["standardiser.deviation"], deviation)


def test_no_epoch_sees_more_tiles_of_a_slide_than_allowed(monkeypatch):
    sizes = []
    original = Trainer._pack_loss

    def watched(self, pack, *arguments):
        sizes.extend(pack.bags.lengths.tolist())
        return original(self, pack, *arguments)

    monkeypatch.setattr(Trainer, "_pack_loss", watched)
    fit(epochs=1, tiles_per_epoch=11)
    assert sizes == [11] * 24


def test_packs_of_any_size_give_the_same_training_but_for_rounding():
    """Without dropout, whose draws depend on what goes through together."""
    small, large = (fit(epochs=4, dropout=0.0, pack_tiles=n).history["train_loss"] for n in (31, 10_000))
    np.testing.assert_allclose(small, large, rtol=1e-5)


def test_a_step_is_that_of_the_mean_loss_of_its_batch():
    """One step of plain arithmetic beside the engine's: the bags looped, their mean loss, clipped, Adam."""
    recipe = {**DEFAULTS, **RECIPE, "dropout": 0.0, "batch_size": 24, "standardise": False}
    train, validation = planted_part(24, 1), planted_part(12, 2)
    architecture = {"aggregator": "ectil", "dim": 6, "hidden": 16, "attention": 8, "dropout": 0.0, "tile_dropout": 0.0}
    torch.manual_seed(0)
    trainer = Trainer(train, validation, TASKS["regression"], architecture, recipe, 0, "fold")
    model = build_model(architecture)
    model.load_state_dict(trainer.model.state_dict())
    loss = trainer.train_epoch(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])
    slides = [torch.sigmoid(model(pack([train.source.read(i)])).slide[0, 0]) for i in range(24)]
    expected = (torch.stack(slides) - train.targets.values[:, 0]).square().mean()
    expected.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["gradient_clip"])
    optimiser.step()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    for key, value in model.state_dict().items():
        # Adam's first step is the gradient's sign: of gradients next to nothing rounding may turn it.
        assert (value - trainer.model.state_dict()[key]).abs().median() < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "adamw"},
        {"schedule": "cosine", "warmup_epochs": 2},
        {"schedule": "one-cycle"},
        {"ema": 0.8},
        {"gradient_clip": 0.001},
        {"precision": "bf16"},
        {"tiles_per_epoch": 15},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_trains_repeats_and_differs_from_the_default(change):
    if change.get("precision") == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no bf16 arithmetic")
    first, again, default = fit(epochs=8, **change), fit(epochs=8, **change), fit(epochs=8)
    assert same_weights(first, again)
    assert not same_weights(first, default)
    assert first.history["train_loss"].iloc[-1] < first.history["train_loss"].iloc[0]


def test_the_weights_kept_with_a_moving_average_are_the_average():
    """With steps of length zero but for the first they stay behind the first step by the decay."""
    plain, averaged = fit(epochs=1, batch_size=24), fit(epochs=1, batch_size=24, ema=0.9)
    start = fit(epochs=1, batch_size=24, learning_rate=0.0)
    key = "classifier.weight"
    # torch's average takes the first step as it is, and decays from the second one on.
    assert torch.equal(averaged.state[key], plain.state[key])
    two, later = fit(epochs=1, batch_size=12, patience=1), fit(epochs=1, batch_size=12, ema=0.5, patience=1)
    assert not torch.equal(two.state[key], later.state[key])
    assert (later.state[key] - start.state[key]).norm() < (two.state[key] - start.state[key]).norm()


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("constant", 4, [0.25, 0.5, 0.75, 1]),
        ("cosine", 0, [1, 0.995, 0.980, 0.955]),
    ],
)
def test_a_schedule_begins_as_it_should(schedule, warmup, expected):
    found = [rate_factor(schedule, step, 22, warmup) for step in range(4)]
    assert found == pytest.approx(expected, abs=0.001)


def test_one_cycle_is_that_of_torch():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, total_steps=50, cycle_momentum=False)
    for step in range(50):
        assert rate_factor("one-cycle", step, 50, 0) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-9)
        optimiser.step()
        if step < 49:
            schedule.step()


def test_the_history_holds_the_rate_of_each_epoch():
    rates = fit(epochs=6, schedule="cosine", patience=6).history["learning_rate"]
    assert (rates.diff().dropna() < 0).all()
    assert rates.iloc[0] == pytest.approx(0.01, rel=0.1)


def test_thresholds_are_for_classification_only():
    assert fit(epochs=2).thresholds == {}
    trained = fit("classification", epochs=5)
    validation = planted_part(12, 2, "classification")
    expected = youden_threshold(truths(validation), outputs(trained, validation, "classification"))
    assert trained.thresholds == {"youden": pytest.approx(expected, abs=1e-6)}


def test_several_seeds_train_a_model_each(tmp_path):
    parts = {"train": planted_part(24, 1), "validation": planted_part(12, 2)}
    settings = {"name": "m", "aggregator": "ectil", "seed": 3, "training": {**RECIPE, "epochs": 2, "seeds": 3}}
    members = train_members(parts, TASKS["regression"], settings, 0, tmp_path / "fold-0")
    assert len({float(member.state["classifier.weight"][0, 0]) for member in members}) == 3
    assert same_weights(members[0], fit(seed=3, epochs=2))


def test_a_diverged_fold_says_where_and_what_to_try():
    """A learning rate beyond all bounds."""
    with pytest.raises(StudyError, match=r"model m, fold 1: the training diverged in epoch \d+: .*\n.*learning_rate"):
        fit(epochs=30, learning_rate=1e30, where="model m, fold 1")


def test_a_gradient_that_is_not_finite_is_not_stepped_with(monkeypatch):
    monkeypatch.setattr(epochs, "clip_and_step", lambda *arguments: False)
    with pytest.raises(StudyError, match="diverged in epoch 1: a gradient is not finite"):
        fit(epochs=2)


def bad_part(what: str) -> tuple[Part, Part, Task]:
    """Parts of which one cannot be trained on."""
    task = TASKS["classification" if "class" in what else "regression"]
    good = planted_part(12, 2, task.name)
    bags = [make_bag(np.zeros((3, 6)), f"s{i}") for i in range(4)]
    if what == "a slide without tiles":
        return make_part([*bags, make_bag(np.zeros((0, 6)), "bare")], [0.1, 0.2, 0.3, 0.4, 0.5], task), good, task
    if what == "a constant target":
        return make_part(bags, [0.4] * 4, task), good, task
    if what == "one class to train on":
        return make_part(bags, [1, 1, 1, 1], task), good, task
    if what == "one class to validate on":
        return good, make_part(bags, [0, 0, 0, 0], task), task
    if what == "a slide without a label":
        return make_part(bags, [0.1, np.nan, 0.3, 0.4], task), good, task
    if what == "no slides":
        return good, make_part([], [], task), task
    other = make_part(bags, [0.1, 0.2, 0.3, 0.4], task)
    return good, replace(other, source=BagSource(bags, "r2")), task


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("a slide without tiles", "the train slides bare have no tiles"),
        ("a constant target", "the target 'target' is the same in all 4 slides of the train part"),
        ("one class to train on", "the train part has slides of class 1 only"),
        ("one class to validate on", "the validation part has slides of class 0 only"),
        ("a slide without a label", "the train slides s1 have no label"),
        ("no slides", "the validation part has no slides"),
        ("another encoder", "the validation features have recipe r2, not r1"),
    ],
)
def test_bad_input_is_named_before_training_starts(what, message):
    train, validation, task = bad_part(what)
    with pytest.raises(StudyError, match=f"fold 3: .*{message}"):
        fit_parts(train, validation, task, AGGREGATOR[task.name], where="fold 3", log=pytest.fail)


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path):
    """Killed in memory after each of its epochs; see test_resuming for a process that is killed."""

    class Killed(BaseException):
        pass

    recipe = {"epochs": 7, "ema": 0.5, "schedule": "cosine", "tile_dropout": 0.2, "tiles_per_epoch": 20}
    whole = fit(**recipe)
    path = Path(tmp_path / "seed-0.pt")

    def kill(line: str) -> None:
        if "goes on" not in line:
            raise Killed

    for _ in range(7):
        with pytest.raises(Killed):
            fit(**recipe, resume=path, log=kill)
    resumed = fit(**recipe, resume=path, log=SILENT)
    assert same_weights(whole, resumed)
    assert whole.history.equals(resumed.history)


@pytest.mark.parametrize("aggregator", ["gated-abmil", "clam-sb"])
def test_contrastive_joint_training_draws_the_classes_apart(aggregator):
    """Pooled vectors of a class are nearer to each other, against the others, than without."""
    parts = planted_part(24, 1, "classification"), planted_part(12, 2, "classification")

    def separation(weight: float) -> float:
        recipe = {"epochs": 15, "patience": 15, "contrastive_weight": weight}
        trained = fit_parts(*parts, TASKS["classification"], aggregator, **recipe)
        model = build_model(trained.architecture)
        model.load_state_dict(dict(trained.state))
        with torch.inference_mode():
            pooled = model.eval()(pack([parts[1].source.read(i) for i in range(12)])).pooled
        return float(contrastive_loss(pooled, parts[1].targets.values[:, 0], 0.1))

    assert separation(1.0) < separation(0.0)


def test_contrastive_training_needs_classes():
    with pytest.raises(StudyError, match="contrastive training needs classes, which task regression has not"):
        fit(contrastive_weight=0.5)


def test_a_batch_of_a_model_with_batch_statistics_is_one_pack_of_two_slides_at_least():
    """25 slides in batches of 8 leave one over, which joins the last batch."""
    parts = planted_part(25, 1), planted_part(12, 2)
    recipe = {"epochs": 2, "pack_tiles": 30, "options": {"batch_norm": True}}
    trained = fit_parts(*parts, TASKS["regression"], "abmil", **recipe)
    assert torch.isfinite(trained.state["norm.running_var"]).all()
