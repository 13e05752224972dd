"""Loading: packs of whole slides, draws that depend on nothing but their keys, and a budget that is kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.loading import BagSource, Draw, Loader, StoreSource, ahead, plan_packs, seed_of
from slidestudy.models.training import train_fold
from tests.models.builders import RECIPE, TASKS, make_bag, make_part, planted_part, write_store

LENGTHS = [20 + 7 * i % 40 for i in range(25)]
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(sizes, st.integers(1, 8), st.integers(1, 100))
def test_packs_hold_every_slide_once_whole_and_in_order(lengths, batch_size, most):
    slides = list(range(len(lengths)))
    batches = [slides[i : i + batch_size] for i in range(0, len(slides), batch_size)]
    packs = list(plan_packs(batches, lengths, most))
    assert [slide for held, _ in packs for slide in held] == slides
    assert sum(closes for _, closes in packs) == len(batches)
    assert all(len(held) == 1 or sum(lengths[s] for s in held) <= most for held, _ in packs)
    closed: list[int] = []
    for held, closes in packs:
        closed += held
        if closes:
            assert closed == batches.pop(0)
            closed = []


def sources(tmp_path: Path, lengths: list[int], dim: int = 4) -> tuple[BagSource, StoreSource]:
    rng = np.random.default_rng(0)
    arrays = {f"s{i}": rng.normal(size=(n, dim)) for i, n in enumerate(lengths)}
    paths = {name: write_store(tmp_path / f"{name}.zarr", array) for name, array in arrays.items()}
    return BagSource([make_bag(array, name) for name, array in arrays.items()], "r1"), StoreSource(paths)


def test_stores_are_a_source_like_bags_in_memory(tmp_path):
    memory, stores = sources(tmp_path, [3, 9, 1])
    for name in ("slide_ids", "lengths", "dim", "recipe"):
        assert getattr(stores, name) == getattr(memory, name)
    assert all(torch.equal(stores.read(i), memory.read(i)) for i in range(3))


def test_unreadable_tiles_do_not_count(tmp_path):
    path = write_store(tmp_path / "a.zarr", np.ones((5, 2)), np.array([1, 0, 1, 1, 0], bool))
    source = StoreSource({"a": path})
    assert source.lengths == (3,)
    assert len(source.read(0)) == 3


def test_stores_of_two_recipes_are_refused_before_they_are_read(tmp_path):
    paths = {name: write_store(tmp_path / f"{name}.zarr", np.ones((2, 2)), recipe=name) for name in ("a", "b")}
    with pytest.raises(StudyError, match="do not share one recipe"):
        StoreSource(paths)


@pytest.mark.parametrize("budget", [10**9, 8 * sum(LENGTHS), 8 * (sum(LENGTHS) - 100)])
def test_packs_are_the_same_from_memory_and_streamed(tmp_path, budget):
    """All in float32, all in float16, and some of them streamed."""
    memory, stores = sources(tmp_path, LENGTHS)
    batches = [[3, 1, 0, 4], [19, 5, 16, 2], [7, 8]]
    straight = list(Loader(memory, 10**9, 40).packs(batches, Draw(25, 1, 2)))
    loader = Loader(stores, budget, 40, widen=budget > 10**6)
    assert loader.fits is (budget >= 8 * sum(LENGTHS))
    for _ in range(2):
        found = list(loader.packs(batches, Draw(25, 1, 2)))
        assert [(p.rows.tolist(), p.closes) for p in found] == [(p.rows.tolist(), p.closes) for p in straight]
        for ours, theirs in zip(found, straight, strict=True):
            assert torch.equal(ours.bags.features.float(), theirs.bags.features.float())
            assert torch.equal(ours.bags.offsets, theirs.bags.offsets)


def test_each_slide_is_read_once_where_all_fit_and_each_time_where_not(monkeypatch):
    source = BagSource([make_bag(np.ones((10, 4)), f"s{i}") for i in range(30)])
    reads: list[int] = []
    original = BagSource.read
    monkeypatch.setattr(BagSource, "read", lambda self, i: reads.append(i) or original(self, i))

    def count(budget: int) -> int:
        reads.clear()
        loader = Loader(source, budget, 10)
        for _ in range(3):
            list(loader.packs([list(range(30))]))
        return len(reads)

    assert count(30 * 80) == 30
    # 80 bytes a slide; four packs and two slides are set aside, so that 14 of 20 are kept.
    assert count(20 * 80) == 30 + 2 * 16


def test_what_is_kept_never_exceeds_the_budget():
    source = BagSource([make_bag(np.ones((n, 4)), f"s{n}") for n in range(1, 40)])
    for budget in (2000, 4000, 6000, 12_000):
        loader = Loader(source, budget, 10, widen=True)
        list(loader.slides())
        assert loader.kept_bytes <= budget


def test_a_budget_below_what_is_read_ahead_says_so():
    source = BagSource([make_bag(np.ones((500, 4)), f"s{i}") for i in range(30)])
    with pytest.raises(StudyError, match=r"training.memory_gb: .* do not hold the packs .*500 tiles"):
        Loader(source, 20_000, 100)


def test_a_draw_depends_on_seed_epoch_and_slide_alone():
    features = torch.arange(50.0).unsqueeze(1)
    first = Draw(20, 1, 1).take(features, 3)
    assert torch.equal(first, Draw(20, 1, 1).take(features, 3))
    assert len(first.unique()) == 20
    others = [Draw(20, 2, 1).take(features, 3), Draw(20, 1, 2).take(features, 3), Draw(20, 1, 1).take(features, 4)]
    assert not any(torch.equal(first, other) for other in others)
    assert torch.equal(Draw(50, 1, 1).take(features, 3), features)
    assert torch.equal(Draw(None).take(features, 3), features)


def test_seeds_of_different_keys_differ():
    keys = [(a, b, c) for a in range(8) for b in range(8) for c in range(1, 8)]
    assert len({seed_of(*key) for key in keys}) == len(keys)


def test_reading_ahead_is_bounded_and_keeps_the_order():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item**2

    found = ahead(range(20), work, depth=2)
    assert next(found) == 0
    time.sleep(0.05)
    assert len(begun) <= 4
    assert list(found) == [n**2 for n in range(1, 20)]


def test_an_error_while_reading_ahead_comes_in_its_place():
    def work(item: int) -> int:
        if item == 3:
            raise StudyError("is damaged", "s3")
        return item

    found = ahead(range(6), work)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StudyError, match="s3: is damaged"):
        next(found)


def test_a_streamed_training_gives_the_weights_of_one_from_memory(tmp_path):
    train, validation = planted_part(20, 1), planted_part(8, 2)

    def stored(name: str, part):
        (tmp_path / name).mkdir()
        bags = {s: part.source.read(i).numpy() for i, s in enumerate(part.source.slide_ids)}
        paths = {s: write_store(tmp_path / name / f"{s}.zarr", a) for s, a in bags.items()}
        made = make_part(
            [make_bag(a, s) for s, a in bags.items()], part.targets.values[:, 0].tolist(), TASKS["regression"]
        )
        return type(made)(StoreSource(paths), made.targets)

    # 28 slides of 360 bytes; six slides of each part are set aside.
    tight = {**RECIPE, "epochs": 3, "pack_tiles": 30, "tiles_per_epoch": 20, "memory_gb": 26 * 360 / 2**30}
    common = {"task": TASKS["regression"], "aggregator": "ectil", "seed": 1, "log": lambda line: None}
    whole = train_fold(train, validation, recipe={**tight, "memory_gb": 1.0}, **common)
    streamed = train_fold(stored("train", train), stored("validation", validation), recipe=tight, **common)
    assert all(torch.equal(whole.state[key], streamed.state[key]) for key in whole.state)


MEASURE = """
import sys
from pathlib import Path
import torch
from slidestudy.models.loading import Loader, StoreSource
torch.set_num_threads(1)
paths = {p.stem: p for p in sorted(Path(sys.argv[1]).glob("*.zarr"))}
source = StoreSource(paths)
source.read(0)
def peak():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM"))
    return int(line.split()[1])
before = peak()
loader = Loader(source, int(sys.argv[2]), 1000)
for _ in range(2):
    total = sum(float(pack.bags.features[0, 0]) for pack in loader.packs([list(range(len(paths)))]))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_cohort_larger_than_the_budget_is_read_within_it(tmp_path, repository):
    """Peak memory of a process that passes twice over 60 MB of features with a budget of 24 MB."""
    array = np.random.default_rng(0).normal(size=(1000, 1000))
    first = write_store(tmp_path / "s0.zarr", array)
    for i in range(1, 30):
        shutil.copytree(first, tmp_path / f"s{i}.zarr")
    grown = {}
    for megabytes in (24, 500):
        call = [sys.executable, "-c", MEASURE, str(tmp_path), str(megabytes * 10**6)]
        environment = {"PYTHONPATH": str(repository / "scripts"), "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(call, capture_output=True, text=True, env=environment, check=True)
        grown[megabytes] = int(done.stdout) * 1024 / 10**6
    assert grown[24] < 30
    # What fits is kept: the measure would see it.
    assert grown[500] > 50
