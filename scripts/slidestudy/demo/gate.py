"""Known patches for the reader's test: of painted fields, the places with the most and with the fewest lymphocytes."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from slidestudy.demo.layout import Layout, plan_layout
from slidestudy.demo.scanner import SCANNER_A, SCANNER_B, scan
from slidestudy.demo.tissue import paint_tissue
from slidestudy.files import atomic_path, read_json, write_json

VERSION = 1
FIELDS = 8
"""Painted fields; each gives a rich and a poor patch."""
FIELD_UM, PATCH_UM = 384, 128
TIL_REQUESTS = (70.0, 40.0)
"""Requested TIL percentages of the fields, in turn."""
LEAST_TISSUE = 0.97
TABLE = "gate.tsv"


def generate_gate(folder: Path, seed: int) -> None:
    """Writes `gate.tsv` (`image mpp rich patient`) and its images, unless the folder already holds them.

    A patch is rich where it is the one of its field with the most painted lymphocytes, and poor where it is the one
    with the fewest; both are tissue throughout. Equal seeds give equal bytes.

    Args:
        folder: Where to write; made where missing.
        seed: Seed of everything random.
    """
    recipe = {"version": VERSION, "seed": seed}
    if _is_complete(folder, recipe):
        return
    (folder / "gate.json").unlink(missing_ok=True)
    rows = []
    for number in range(FIELDS):
        scanner = (SCANNER_A, SCANNER_B)[number % 2]
        rng = np.random.default_rng([seed, *b"gate", number])
        layout = plan_layout(rng, (FIELD_UM, FIELD_UM), TIL_REQUESTS[number // 2 % 2], mucinous=False)
        image = scan(rng, paint_tissue(rng, layout, scanner.mpp), scanner, (1.0, 1.0))
        for rich, (x, y) in enumerate(_places(layout)):
            name = f"field-{number:02d}-{'rich' if rich else 'poor'}.png"
            left, top, side = (round(value / scanner.mpp) for value in (x, y, PATCH_UM))
            patch = cv2.cvtColor(image[top : top + side, left : left + side], cv2.COLOR_RGB2BGR)
            with atomic_path(folder / name) as partial:
                cv2.imwrite(str(partial), patch)
            rows.append([name, f"{scanner.mpp:g}", rich, f"field-{number:02d}"])
    with atomic_path(folder / TABLE) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(["image", "mpp", "rich", "patient"])
        writer.writerows(rows)
    sizes = {name: (folder / name).stat().st_size for name in [TABLE, *(str(row[0]) for row in rows)]}
    write_json(folder / "gate.json", {**recipe, "files": sizes})


def _places(layout: Layout) -> list[tuple[int, int]]:
    """The upper left corners, in um, of the patches with the fewest and with the most lymphocytes."""
    cells = np.zeros(layout.tissue.shape, np.float32)
    columns, rows = layout.lymphocytes.astype(int).T
    np.add.at(cells, (rows, columns), 1)
    counts, tissue = _windows(cells), _windows(layout.tissue.astype(np.float32)) / PATCH_UM**2
    inside = tissue >= min(LEAST_TISSUE, float(tissue.max()))
    least = np.where(inside, counts, np.inf).argmin()
    most = np.where(inside, counts, -np.inf).argmax()
    corners = [np.unravel_index(place, counts.shape) for place in (least, most)]
    return [(int(x), int(y)) for y, x in corners]


def _windows(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The sum over every patch-sized window, by its upper left corner."""
    total = np.pad(values.astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    side = PATCH_UM
    return total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]


def _is_complete(folder: Path, recipe: dict[str, int]) -> bool:
    """Whether the folder holds these very patches with every file at its recorded size."""
    try:
        record = read_json(folder / "gate.json")
        files = record.pop("files")
        return record == recipe and all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
