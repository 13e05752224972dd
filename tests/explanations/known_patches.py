"""A gate table of annotated patches: of each image the place with the most and with the fewest inflammatory nuclei."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

SIDE_UM = 128
RICH, POOR = 15, 3
"""Inflammatory nuclei in a patch: at least so many, at most so many."""
LEAST_NUCLEI = 15


def write_gate(folder: Path, images: Path, nuclei: pd.DataFrame, mpp: float) -> Path:
    """Writes `gate.tsv` and its images.

    Args:
        folder: Where to write.
        images: The annotated images, `<image>.<suffix>`.
        nuclei: `image x y class`, x and y in px.
        mpp: Micrometres per pixel of the images.
    """
    rows, side = [], round(SIDE_UM / mpp)
    for path in sorted(images.iterdir()):
        picture = cv2.imread(str(path))
        of = nuclei[nuclei["image"] == path.stem]
        corners = [
            (x, y)
            for y in range(0, picture.shape[0] - side + 1, side // 2)
            for x in range(0, picture.shape[1] - side + 1, side // 2)
        ]
        inside = [of[of["x"].between(x, x + side) & of["y"].between(y, y + side)] for x, y in corners]
        inflamed = np.array([(found["class"] == "inflammatory").sum() for found in inside])
        dense = np.array([len(found) for found in inside]) >= LEAST_NUCLEI
        for rich, place in ((1, int(np.argmax(inflamed))), (0, int(np.argmin(np.where(dense, inflamed, 10**6))))):
            fits = inflamed[place] >= RICH if rich else dense[place] and inflamed[place] <= POOR
            if not fits:
                continue
            x, y = corners[place]
            name = f"{path.stem}-{'rich' if rich else 'poor'}.png"
            cv2.imwrite(str(folder / name), picture[y : y + side, x : x + side])
            rows.append([name, mpp, rich, path.stem])
    table = pd.DataFrame(rows, columns=["image", "mpp", "rich", "patient"])
    table.to_csv(folder / "gate.tsv", sep="\t", index=False)
    return folder / "gate.tsv"
