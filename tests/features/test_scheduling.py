"""Where cohort-wide computations run: threads and a real cluster on loopback give the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from tests.features.planted import three_cohorts
from threadpoolctl import threadpool_info

from slidestudy.errors import StudyError
from slidestudy.features.cohorts import draw_tiles, open_cohort
from slidestudy.features.components import cohort_moments, moments_table
from slidestudy.features.near_duplicates import near_duplicates
from slidestudy.features.scheduling import on


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A scheduler with a worker, both of this process, that talk over TCP on loopback."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0"
    ) as running:
        yield running


def computed(paths: list[Path], scheduler: str) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    with on(scheduler, threads=2, patience=10):
        cohort = open_cohort(paths)
        drawn = draw_tiles(cohort, 10, seed=0)
        return moments_table(cohort_moments(cohort)), drawn.features, near_duplicates(drawn, 0.9)


def test_a_cluster_gives_what_threads_give(tmp_path: Path, cluster: LocalCluster) -> None:
    paths = three_cohorts(tmp_path)
    moments, features, duplicates = computed(paths, "threads")
    assert len(duplicates) > 10
    elsewhere = computed(paths, cluster.scheduler_address)
    pd.testing.assert_frame_equal(elsewhere[0], moments, rtol=1e-12)
    np.testing.assert_array_equal(elsewhere[1], features)
    pd.testing.assert_frame_equal(elsewhere[2], duplicates)


def test_the_cluster_does_the_work_and_is_left_afterwards(tmp_path: Path, cluster: LocalCluster) -> None:
    with on(cluster.scheduler_address, patience=10):
        where = dask.delayed(lambda: __import__("distributed").get_worker().address)().compute()
    assert where == cluster.workers[0].address
    with pytest.raises(ValueError, match="No worker"):
        dask.delayed(lambda: __import__("distributed").get_worker())().compute(scheduler="threads")
    assert dask.delayed(int)(7).compute() == 7


def test_a_user_error_of_a_worker_arrives_as_one(tmp_path: Path, cluster: LocalCluster) -> None:
    paths = three_cohorts(tmp_path)
    cohort = open_cohort(paths)
    (shard,) = [f for f in (paths[4] / "features" / "c").rglob("*") if f.is_file()]
    shard.unlink()
    with on(cluster.scheduler_address, patience=10), pytest.raises(StudyError, match=r"s4\.zarr: is damaged") as caught:
        cohort_moments(cohort)
    assert caught.value.problems[0].remedy == "remove it; it will be made anew"


def test_an_unreachable_scheduler_is_an_error_of_the_user() -> None:
    # Port 9 of loopback (discard) has no listener.
    with (
        pytest.raises(StudyError, match=r"cannot be reached.*\n.*remedy: start it"),
        on("tcp://127.0.0.1:9", patience=0.5),
    ):
        pass


@pytest.mark.parametrize("address", ["nonsense://x", "processes", "tcp://"])
def test_an_address_that_is_none_is_an_error_of_the_user(address: str) -> None:
    with pytest.raises(StudyError, match=f"dask.scheduler: {address}"), on(address, patience=0.5):
        pass


def test_a_cluster_without_a_worker_is_an_error_of_the_user() -> None:
    with (
        LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0") as empty,
        pytest.raises(StudyError, match="has no worker"),
        on(empty.scheduler_address, patience=0.5),
    ):
        pass


def test_workers_that_do_not_find_the_library_are_an_error_of_the_user(tmp_path: Path) -> None:
    # The first package of this name on the worker's path has no features.
    (tmp_path / "slidestudy").mkdir()
    (tmp_path / "slidestudy" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0") as empty:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", empty.scheduler_address, "--no-nanny"]
        worker = subprocess.Popen(
            [*command, "--no-dashboard", "--nthreads", "1"], cwd=tmp_path, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with pytest.raises(StudyError, match="workers cannot run this study"), on(empty.scheduler_address):
                pass
        finally:
            worker.terminate()
            worker.wait()


def test_linear_algebra_keeps_to_one_thread() -> None:
    with on("threads", threads=2):
        np.ones((8, 8)) @ np.ones((8, 8))
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
