"""`slidestudy verify`: checks feature stores and says what is wrong with each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from slidestudy.features.verification import find_stores, verify_stores


def verify_paths(paths: Iterable[Path], console: Console) -> bool:
    """Prints one line for each store with a problem, and a summary.

    Args:
        paths: Stores, or folders that hold stores.
        console: Where to print.

    Returns:
        Whether all stores are sound.

    Raises:
        StudyError: A path holds no store.
    """
    stores = find_stores(paths)
    tiles = bad = 0
    for verdict in verify_stores(stores):
        tiles += verdict.n_tiles
        if verdict.problems:
            bad += 1
            console.print(f"{verdict.path}: {'; '.join(verdict.problems)}", soft_wrap=True)
    stated = f"{len(stores)} store{'s' if len(stores) != 1 else ''} with {tiles:,} tiles"
    if bad:
        console.print(f"{stated} checked: {bad} with problems. Remove these; they will be made anew.", soft_wrap=True)
    else:
        console.print(f"{stated} checked: no problem found.", soft_wrap=True)
    return bad == 0
