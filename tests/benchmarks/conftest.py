"""The table that the benchmarks fill and print when all have run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.benchmarks.timing import Table


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread for ours and for the reference, so that a ratio does not hang on the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    rows = Table()
    yield rows
    print(f"\n{rows}")
