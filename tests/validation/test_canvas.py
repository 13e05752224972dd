"""What figures share: files by their suffix, the same bytes each time, and colours that all can tell apart."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from slidestudy.validation.canvas import COLOURS, PNG_DPI, draw_text, panels, plt, save

# Machado, Oliveira & Fernandes 2009, IEEE Trans Vis Comput Graph 15:1291, severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_are_told_apart_with_any_colour_vision(blindness):
    colours = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ BLINDNESS[blindness].T, 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055).astype(np.float32)
    lab = cv2.cvtColor(encoded[None], cv2.COLOR_RGB2LAB)[0]
    # A difference of 2.3 in CIE Lab is just noticeable; 15 is plain.
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 15


def test_one_figure_becomes_a_file_of_each_kind_asked_for(tmp_path):
    figure, axes = panels(1, 2, 1)
    axes[0].plot([0, 1])
    save(figure, tmp_path / "a.svg", tmp_path / "a.png")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (2 * PNG_DPI, PNG_DPI))
    assert figure.number not in plt.get_fignums()


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_figure_is_the_same_bytes(suffix, tmp_path):
    for name in ("a", "b"):
        draw_text("nothing to draw", tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
