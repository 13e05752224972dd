"""Random views of tiles: what an encoder learns to see past (place, size, orientation, stain, focus)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as image_functions

from slidestudy.features.stain_texture import STAINS

ASPECT = (0.8, 1.25)
"""Range of a crop's width over height."""
STAIN_SCALE, STAIN_SHIFT = 0.25, 0.03
"""Largest relative and absolute change of each stain's optical density."""
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.25, 0.3
"""Largest relative changes of these."""
GREY, BLUR = 0.1, 0.2
"""Probabilities of a view without colour and of a blurred one."""
BLUR_SIGMA = (0.3, 1.2)
"""Range of the blur, px."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601)."""


@dataclass(frozen=True)
class Views:
    """Makes random views of a batch of tiles.

    Crops, flips and quarter turns are drawn for each tile, then stain (each stain's density on its own, as Tellez et
    al., MedIA 2019), brightness, contrast, saturation, grey and blur for the whole batch at once. All draws come from
    torch's global generator, which the training loop seeds.

    Attributes:
        side: Side of a view, px.
        scale: Smallest and largest share of the tile's area that a view shows.
        colour: Strength of the changes of colour; 0 leaves colours as they are.
    """

    side: int
    scale: tuple[float, float]
    colour: float = 1.0

    def __call__(self, tiles: Tensor) -> Tensor:
        """Makes one view of each tile.

        Args:
            tiles: uint8 (n, 3, size, size).

        Returns:
            float32 (n, 3, side, side) in 0..1.
        """
        crop = v2.RandomResizedCrop(
            self.side, scale=self.scale, ratio=ASPECT, interpolation=InterpolationMode.BILINEAR, antialias=True
        )
        views = torch.stack([_turned(crop(tile)) for tile in tiles]).float() / 255
        if self.colour:
            views = _toned(_stained(views, self.colour), self.colour)
            views = _blurred(views)
        return views


def _turned(tile: Tensor) -> Tensor:
    """One of the eight orientations of a square."""
    turns, mirror = torch.randint(4, ()).item(), torch.randint(2, ()).item()
    turned = torch.rot90(tile, int(turns), (1, 2))
    return turned.flip(2) if mirror else turned


def _spread(count: int, width: float, channels: int = 1) -> Tensor:
    """Uniform draws in -width..width for each picture, (n, channels, 1, 1)."""
    return (torch.rand(count, channels, 1, 1) * 2 - 1) * width


def _stained(views: Tensor, strength: float) -> Tensor:
    """Changes the density of each stain."""
    count = len(views)
    to_rgb = torch.from_numpy(STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True))
    scale = 1 + _spread(count, STAIN_SCALE * strength, 3).view(count, 3, 1)
    shift = _spread(count, STAIN_SHIFT * strength, 3).view(count, 1, 3)
    # Into stains, scaled, and back, as one matrix for each picture; colours are columns.
    matrix = (torch.linalg.inv(to_rgb) @ (scale * to_rgb)).transpose(1, 2)
    density = views.clamp(min=1 / 255).log_().neg_().flatten(2)
    changed = torch.baddbmm((shift @ to_rgb).transpose(1, 2), matrix, density)
    return changed.neg_().exp_().clamp_(0, 1).view_as(views)


def _toned(views: Tensor, strength: float) -> Tensor:
    """Changes brightness, contrast and saturation; some views lose their colour."""
    count = len(views)
    brightness, contrast = (1 + _spread(count, width * strength).view(count, 1, 1) for width in (BRIGHTNESS, CONTRAST))
    coloured = torch.rand(count, 1, 1) >= GREY * strength
    saturation = (1 + _spread(count, SATURATION * strength).view(count, 1, 1)) * coloured
    # All three are linear in the colours: one matrix for each picture, and the mean that contrast leaves in place.
    luma = torch.tensor(LUMA).expand(3, 3)
    matrix = brightness * contrast * (saturation * torch.eye(3) + (1 - saturation) * luma)
    mean = brightness * (1 - contrast) * views.mean(dim=(1, 2, 3)).view(count, 1, 1)
    return torch.baddbmm(mean.expand(count, 3, 1), matrix, views.flatten(2)).clamp_(0, 1).view_as(views)


def _blurred(views: Tensor) -> Tensor:
    """Blurs some of the views, all of a batch by the same amount."""
    low, high = BLUR_SIGMA
    sigma = low + (high - low) * float(torch.rand(()))
    chosen = torch.rand(len(views)) < BLUR
    if chosen.any():
        side = 2 * int(3 * sigma + 0.5) + 1
        views[chosen] = image_functions.gaussian_blur(views[chosen], [side, side], [sigma, sigma])
    return views
