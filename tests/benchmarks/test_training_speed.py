"""Training ECTIL on generated features of the size of its study, against the published way and plainer ones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from torch import nn

from slidestudy.features.store import write_features
from slidestudy.models.epochs import Part, Trainer
from slidestudy.models.loading import StoreSource, generator_of, seed_of
from slidestudy.models.mil import build_model
from slidestudy.models.optimisation import DEFAULTS
from slidestudy.models.packing import pack
from slidestudy.models.targets import Targets
from slidestudy.models.training import Trained, train_fold
from tests.benchmarks.timing import seconds
from tests.models.builders import RECIPE, TASKS, planted_part

pytestmark = pytest.mark.bench
SCORE = TASKS["regression"]
TRAIN, VALIDATION, TILES, DIM = 244, 44, 1000, 2048
"""The size of ECTIL's folds on TCGA."""
ECTIL = {
    "hidden": 512,
    "attention": 128,
    "dropout": 0.4,
    "tile_dropout": 0.1,
    "learning_rate": 1e-4,
    "weight_decay": 6e-4,
    "batch_size": 16,
    "gradient_clip": 0.5,
    "epochs": 100,
    "patience": 15,
    "standardise": False,
    "threads": 1,
}
ARCHITECTURE = {"aggregator": "ectil", "dim": DIM, "hidden": 512, "attention": 128, "dropout": 0.4, "tile_dropout": 0.1}
STUDY_SLIDES, FOLDS, EPOCHS_OF_A_FOLD = 356, 5, 50
"""The study on TCGA; that a fold runs for 50 epochs is our assumption."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[dict[str, Path], dict[str, Path], np.ndarray]:
    """Generated slides as our stores and as the H5 files of an extraction that appends batches, and their targets."""
    folder = tmp_path_factory.mktemp("cohort")
    rng, stores, files, targets = np.random.default_rng(0), {}, {}, []
    coords = np.zeros((TILES, 2), np.int32)
    for i in range(TRAIN + VALIDATION):
        slide, fraction = f"s{i:03d}", rng.uniform()
        features = np.abs(rng.standard_normal((TILES, DIM), np.float32)).astype(np.float16)
        features[: round(fraction * TILES), :64] += 1
        stores[slide], files[slide] = folder / f"{slide}.zarr", folder / f"{slide}.h5"
        said = {"slide_id": slide, "recipe": "r1", "status": "admitted", "reason": None}
        write_features(stores[slide], features, coords, np.ones(TILES, np.float32), np.ones(TILES, bool), said)
        with h5py.File(files[slide], "w") as file:
            file.create_dataset("features", data=features.astype(np.float32), maxshape=(None, DIM), chunks=True)
        targets.append(fraction)
    return stores, files, np.array(targets, np.float32)


def part_of(stores: dict[str, Path], targets: np.ndarray, rows: slice) -> Part:
    slides = list(stores)[rows]
    values = torch.from_numpy(targets[rows]).unsqueeze(1)
    labels = Targets(tuple(slides), values, torch.ones_like(values, dtype=torch.bool))
    return Part(StoreSource({slide: stores[slide] for slide in slides}), labels)


class PublishedWay:
    """Each slide's H5 is opened in every epoch; bags go through one by one, 16 to a step of their mean."""

    def __init__(self, files: dict[str, Path], targets: np.ndarray) -> None:
        self.files, self.targets = list(files.values()), torch.from_numpy(targets)
        torch.manual_seed(0)
        self.model = build_model(ARCHITECTURE)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-4, weight_decay=6e-4)

    def loss(self, slide: int) -> torch.Tensor:
        with h5py.File(self.files[slide]) as file:
            bag = torch.from_numpy(file["features"][:])
        return (torch.sigmoid(self.model(pack([bag])).slide[0, 0]) - self.targets[slide]).square()

    def epoch(self, number: int) -> tuple[float, float]:
        """The mean losses of both parts, with the draws of our engine."""
        self.model.train()
        torch.manual_seed(seed_of(102, 0, number))
        order = torch.randperm(TRAIN, generator=generator_of(101, 0, number))
        total = 0.0
        for batch in order.split(16):
            self.optimiser.zero_grad()
            for slide in batch.tolist():
                loss = self.loss(slide)
                (loss / len(batch)).backward()
                total += float(loss.detach())
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
            self.optimiser.step()
        self.model.eval()
        with torch.inference_mode():
            held_out = sum(float(self.loss(slide)) for slide in range(TRAIN, TRAIN + VALIDATION))
        return total / TRAIN, held_out / VALIDATION


class OurWay:
    """The engine, its features read."""

    def __init__(self, parts: tuple[Part, Part], **recipe: Any) -> None:
        torch.manual_seed(0)
        full = {**DEFAULTS, **ECTIL, **recipe}
        self.trainer = Trainer(*parts, SCORE, ARCHITECTURE, full, 0, "benchmark")
        for loader in self.trainer._loaders.values():
            for _ in loader.slides():
                pass

    def epoch(self, number: int) -> tuple[float, float]:
        """The mean losses of both parts."""
        return self.trainer.train_epoch(number), self.trainer.judge(self.trainer.outputs())[0]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def test_an_epoch_against_the_published_way(cohort, table):
    """The losses of two epochs agree; at fp32 on a CPU both ways spend their time in the same matrix products."""
    stores, files, targets = cohort
    parts = part_of(stores, targets, slice(TRAIN)), part_of(stores, targets, slice(TRAIN, None))
    torch.use_deterministic_algorithms(True)
    published = PublishedWay(files, targets)
    reading, ours = timed(lambda: OurWay(parts))
    times: dict[str, list[float]] = {"published": [], "ours": []}
    for number in (1, 2):
        for name, way in (("published", published), ("ours", ours)):
            taken, losses = timed(lambda way=way, number=number: way.epoch(number))
            times[name].append(taken)
            if name == "published":
                expected = losses
        assert losses == pytest.approx(expected, abs=1e-5)
    what = f"epoch of ECTIL, {TRAIN}/{VALIDATION} slides x {TILES} tiles x {DIM}"
    name = "published way: H5 opened, bags one by one"
    table.add(f"{what}, fp32, same losses", min(times["ours"]), min(times["published"]), name)
    feeding(parts, files, table)
    del ours
    for label, recipe in (
        ("bf16", {"precision": "bf16"}),
        ("250 tiles an epoch", {"tiles_per_epoch": 250}),
        ("250 tiles an epoch, bf16", {"tiles_per_epoch": 250, "precision": "bf16"}),
    ):
        if "bf16" in label and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            continue
        way = OurWay(parts, **recipe)
        way.epoch(1)
        table.add(
            f"{what}, {label}: another training", timed(lambda way=way: way.epoch(2))[0], min(times["published"]), name
        )
    print(f"\nreading {TRAIN + VALIDATION} stores once, checksums verified: {reading:.1f} s")


def feeding(parts: tuple[Part, Part], files: dict[str, Path], table: Any) -> None:
    """What is left of an epoch without the model: getting at the features."""
    loader = OurWay(parts).trainer._loaders["train"]
    list(loader.slides())

    def ours() -> None:
        for _ in loader.packs([list(range(TRAIN))]):
            pass

    def published() -> None:
        for path in list(files.values())[:TRAIN]:
            with h5py.File(path) as file:
                torch.from_numpy(file["features"][:])

    table.add("the same without the model: features at hand", seconds(ours, 2), seconds(published, 2), "H5 opened")


def test_a_study_of_five_folds(cohort, capsys):
    """Extrapolated from epochs of one fold at 214/71 slides with two threads; nothing here is a whole study."""
    stores, _, targets = cohort
    share = STUDY_SLIDES // FOLDS
    train = STUDY_SLIDES - 2 * share
    parts = part_of(stores, targets, slice(train)), part_of(stores, targets, slice(train, train + share))
    torch.set_num_threads(2)
    variants: dict[str, dict[str, Any]] = {"fp32, all tiles": {}, "fp32, 250 tiles an epoch": {"tiles_per_epoch": 250}}
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        variants |= {
            "bf16, all tiles": {"precision": "bf16"},
            "bf16, 250 tiles an epoch": {"precision": "bf16", "tiles_per_epoch": 250},
        }
    minutes = {}
    with capsys.disabled():
        print(f"\n{FOLDS} folds of {STUDY_SLIDES} slides on 2 threads, extrapolated from 2 epochs of one fold:")
        for name, recipe in variants.items():
            reading, way = timed(lambda recipe=recipe: OurWay(parts, **recipe))
            way.epoch(1)
            epoch = seconds(lambda way=way: way.epoch(2), 2)
            minutes[name] = FOLDS * (reading + EPOCHS_OF_A_FOLD * epoch) / 60
            fit = (600 / FOLDS - reading) / epoch
            print(
                f"  {name}: {epoch:.2f} s an epoch, {reading:.1f} s to read; {minutes[name]:.1f} min at"
                f" {EPOCHS_OF_A_FOLD} epochs a fold; ten minutes hold {fit:.0f} epochs a fold"
            )
            del way
    torch.set_num_threads(1)


STREAM = """
import sys, time
from pathlib import Path
import numpy as np
import torch
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/scripts"]
from slidestudy.models.loading import StoreSource
from tests.benchmarks.test_training_speed import ECTIL, SCORE, part_of
from slidestudy.models.training import train_fold
stores = {p.stem: p for p in sorted(Path(sys.argv[2]).glob("*.zarr"))}
targets = np.linspace(0, 1, len(stores), dtype=np.float32)[np.random.default_rng(0).permutation(len(stores))]
recipe = {**ECTIL, "epochs": 1, "memory_gb": float(sys.argv[3]), "standardise": True}
parts = part_of(stores, targets, slice(0, -4)), part_of(stores, targets, slice(-4, None))
train_fold(*parts, task=SCORE, aggregator="ectil", recipe=recipe, seed=0)
print("peak", next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])
"""


def test_a_cohort_larger_than_the_budget_trains_within_it(tmp_path, repository, capsys):
    """A small scale of 3,000 slides: 28 slides of 10,000 tiles x 2,048, 1.1 GB of features, with 0.7 GB for them."""
    rng = np.random.default_rng(0)
    features = np.abs(rng.standard_normal((10_000, DIM), np.float32)).astype(np.float16)
    coords, ones = np.zeros((10_000, 2), np.int32), np.ones(10_000, np.float32)
    for i in range(28):
        said = {"slide_id": f"s{i}", "recipe": "r1", "status": "admitted", "reason": None}
        write_features(tmp_path / f"s{i}.zarr", features, coords, ones, np.ones(10_000, bool), said)
    peaks = {}
    for budget in (0.7, 4.0):
        call = [sys.executable, "-c", STREAM, str(repository), str(tmp_path), str(budget)]
        start = time.perf_counter()
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        peaks[budget] = int(done.stdout.split("peak ")[1]) / 2**20
        with capsys.disabled():
            took = time.perf_counter() - start
            print(f"\n28 slides x 10,000 tiles, memory_gb {budget}: peak {peaks[budget]:.2f} GB, {took:.0f} s")
    # What is not features: the interpreter, torch, and the activations of one slide of 10,000 tiles.
    assert peaks[0.7] < 0.7 + 1.5
    assert peaks[0.7] < peaks[4.0] - 0.3


BAGS, SMALL_TILES, SMALL_DIM, EPOCHS = 100, 300, 128, 10
SIZES = {"hidden": 128, "attention": 64, "dropout": 0.4, "tile_dropout": 0.1}
SMALL = {**RECIPE, **SIZES, "learning_rate": 0.002, "batch_size": 16, "epochs": EPOCHS, "patience": EPOCHS}


def plain_loop(train: Part) -> nn.Module:
    """One optimiser step per bag, no validation, no standardising: the loop of a MIL tutorial."""
    torch.manual_seed(0)
    model = build_model({"aggregator": "ectil", "dim": SMALL_DIM, **SIZES}).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=SMALL["learning_rate"])
    for _ in range(EPOCHS):
        for i in range(BAGS):
            optimiser.zero_grad()
            slide = torch.sigmoid(model(pack([train.source.read(i)])).slide[0, 0])
            (slide - train.targets.values[i, 0]).square().backward()
            optimiser.step()
    return model.eval()


def correlation(predicted: np.ndarray, held_out: Part) -> float:
    return float(np.corrcoef(predicted, held_out.targets.values[:, 0])[0, 1])


def predictions(model: nn.Module, part: Part) -> np.ndarray:
    with torch.inference_mode():
        return model(pack([part.source.read(i) for i in range(len(part.targets))])).slide[:, 0].numpy()


def test_training_against_a_plain_loop_and_ridge(table):
    sizes = {"tiles": SMALL_TILES, "dim": SMALL_DIM}
    train, validation, held_out = (planted_part(n, seed, **sizes) for n, seed in ((BAGS, 1), (20, 2), (60, 3)))
    made: dict[str, Any] = {}

    def ours() -> None:
        trained: Trained = train_fold(
            train, validation, task=SCORE, aggregator="ectil", recipe=SMALL, seed=0, log=lambda line: None
        )
        made["ours"] = build_model(trained.architecture)
        made["ours"].load_state_dict(dict(trained.state))
        made["ours"].eval()

    def loop() -> None:
        made["loop"] = plain_loop(train)

    def means(part: Part) -> np.ndarray:
        return np.stack([part.source.read(i).float().mean(0).numpy() for i in range(len(part.targets))])

    def ridge() -> None:
        made["ridge"] = RidgeCV(np.logspace(-3, 3, 13)).fit(means(train), train.targets.values[:, 0].numpy())

    times = {"ours": seconds(ours, 2), "loop": seconds(loop, 2), "ridge": seconds(ridge, 2)}
    found = {name: correlation(predictions(made[name], held_out), held_out) for name in ("ours", "loop")}
    found["ridge"] = correlation(made["ridge"].predict(means(held_out)), held_out)
    what = f"training ECTIL, {BAGS} bags x {SMALL_TILES} tiles x {SMALL_DIM}, {EPOCHS} epochs (r {found['ours']:.2f})"
    table.add(what, times["ours"], times["loop"], f"one step per bag (r {found['loop']:.2f})")
    table.add(what, times["ours"], times["ridge"], f"scikit-learn ridge on bag means (r {found['ridge']:.2f})")
    assert found["ours"] > 0.8
