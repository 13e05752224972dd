"""Reads many damaged copies of a slide, in a process of its own: a library that crashes or hangs takes only that.

Prints what it tries before it does it, and as the last line a JSON record of what was found.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import tifffile

from slidestudy.errors import SlideError
from slidestudy.slides.reader import RGB, Slide
from tests.slides.builders import all_tiles, peak_megabytes

THREADS = 2
OVERVIEW_PX = 100
WHITE = 250
TISSUE = 215
"""Tiles of a lower mean show tissue. In lighter ones a damaged JPEG may leave white without any sign of damage: each
block's brightness is stored as a difference from the last."""


def damage(content: bytes, directories: list[int], kind: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """A damaged copy, and what was done to it."""
    if kind == "cut":
        length = int(rng.integers(0, len(content)))
        return content[:length], f"cut to {length} bytes"
    length = int(2 ** rng.uniform(0, 12))
    start = int(rng.integers(0, len(content)))
    if rng.random() < 0.5:
        start = int(rng.choice(directories)) + int(rng.integers(-200, 400))
        start = min(max(0, start), len(content) - 1)
    length = min(length, len(content) - start)
    filling = (rng.bytes(length), bytes(length), b"\xff" * length)[int(rng.integers(3))]
    return content[:start] + filling + content[start + length :], f"{length} bytes at {start}: {filling[:4].hex()}..."


def read_all(slide: Slide, side: int) -> tuple[RGB, np.ndarray, np.ndarray]:
    """Every tile of level 0, and an overview."""
    overview = slide.read_overview(max(1.0, max(slide.size) / OVERVIEW_PX), THREADS)
    assert max(overview.picture.shape[:2]) <= OVERVIEW_PX + 1
    return all_tiles(slide, side, THREADS)


def main(path: Path, work: Path, kind: str, trials: int, side: int) -> dict[str, object]:
    """Reads damaged copies; returns how often what was found, and each finding that must not be."""
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        directories = [page.offset for page in file.pages]
    with Slide(path) as slide:
        size = slide.size
        sound, readable, _ = read_all(slide, side)
    assert readable.all()
    tissue = sound.mean((1, 2, 3)) < TISSUE
    assert tissue.any()
    found: Counter[str] = Counter()
    wrong: list[str] = []
    for trial in range(trials):
        damaged, what = damage(content, directories, kind, np.random.default_rng([trial, len(kind)]))
        print(f"{trial}: {what}", flush=True)
        work.write_bytes(damaged)
        try:
            with Slide(work, "s1") as slide:
                tiles, readable, absent = read_all(slide, side)
        except SlideError as error:
            found[f"refused as {error.reason}"] += 1
            if not error.what:
                wrong.append(f"{what}: no reason is given")
            continue
        found["opened"] += 1
        found["opened, some tiles unreadable"] += not readable.all()
        if tiles[~readable].any():
            wrong.append(f"{what}: an unreadable tile has pixels")
        if slide.size == size:
            white = readable & (absent == 0) & (tiles > WHITE).all(axis=(1, 2, 3))
            if (white & tissue).any():
                wrong.append(f"{what}: tissue became white at tiles {np.flatnonzero(white & tissue).tolist()}")
            if kind == "cut" and readable.all() and not np.array_equal(tiles, sound):
                wrong.append(f"{what}: other pixels of which none is flagged")
    return {"found": found, "wrong": wrong, "megabytes": peak_megabytes()}


if __name__ == "__main__":
    slide_file, work_file, kind, trials, side = sys.argv[1:]
    print(json.dumps(main(Path(slide_file), Path(work_file), kind, int(trials), int(side))))
