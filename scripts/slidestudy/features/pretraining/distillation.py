"""DINO: a student follows its own moving average over views of different extent (Caron et al., ICCV 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from slidestudy.errors import StudyError
from slidestudy.features.pretraining.backbone import Backbone
from slidestudy.features.pretraining.views import Views

HIDDEN, BOTTLENECK, PROTOTYPES = 512, 128, 1024
"""Widths of the projection head; fewer prototypes than the paper's, as studies have fewer tiles than ImageNet."""
LOCAL_VIEWS = 4
"""Views of a small part of the tile, which only the student sees."""
MOMENTUM, TEACHER_TEMPERATURE = 0.99, 0.04
"""The teacher's moving average at the start (1 at the end), and the temperature that sharpens its output."""
STEPS = 10_000
"""Steps in which the momentum's cosine is divided."""


class Dino(nn.Module):
    """Student and teacher with DINO's projection heads and loss, whose centring keeps the output from collapsing.

    Args:
        backbone: The student; the teacher, a copy of it, is what is kept.
        recipe: The configuration's section `pretraining`.
    """

    def __init__(self, backbone: Backbone, recipe: Mapping[str, Any]) -> None:
        super().__init__()
        crop, border = recipe["crop"], recipe["min_scale"]
        dim = backbone.width(crop)
        self.student = backbone
        self.student_head = DINOProjectionHead(dim, HIDDEN, BOTTLENECK, PROTOTYPES, freeze_last_layer=1)
        self.teacher = deepcopy(backbone)
        # Its normalised weights cannot be copied with deepcopy.
        self.teacher_head = DINOProjectionHead(dim, HIDDEN, BOTTLENECK, PROTOTYPES)
        self.teacher_head.load_state_dict(self.student_head.state_dict())
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)
        self.loss = DINOLoss(PROTOTYPES, warmup_teacher_temp_epochs=1, teacher_temp=TEACHER_TEMPERATURE)
        self._global = Views(crop, (border, 1.0))
        self._local = Views(_local_side(backbone, crop), (border / 4, border))

    @property
    def encoder(self) -> Backbone:
        """The network that is kept: the teacher, which is the better one (section 5.2 of the paper)."""
        return self.teacher

    def views(self, tiles: Tensor) -> list[Tensor]:
        """Two views of most of the tile, then the local ones, of uint8 (n, 3, size, size)."""
        return [self._global(tiles), self._global(tiles), *(self._local(tiles) for _ in range(LOCAL_VIEWS))]

    def step(self, views: list[Tensor]) -> Tensor:
        """The loss of a batch of views."""
        with torch.no_grad():
            taught = [self.teacher_head(self.teacher(view)) for view in views[:2]]
        learned = [self.student_head(self.student(view)) for view in views]
        return self.loss(taught, learned)

    def after_backward(self, epoch: int) -> None:
        """Holds the prototypes still in the first epoch (`epoch` counts from 1)."""
        self.student_head.cancel_last_layer_gradients(epoch - 1)

    def after_step(self, progress: float) -> None:
        """Moves the teacher; `progress` is the share of the training that is done."""
        momentum = cosine_schedule(min(int(progress * STEPS), STEPS - 1), STEPS, MOMENTUM, 1.0)
        update_momentum(self.student, self.teacher, momentum)
        update_momentum(self.student_head, self.teacher_head, momentum)


def _local_side(backbone: Backbone, crop: int) -> int:
    """Half the side for local views, to a multiple of 16; the whole side where the network takes no other."""
    half = max(16, round(crop / 32) * 16)
    try:
        backbone.width(half)
    except StudyError:
        return crop
    return half
