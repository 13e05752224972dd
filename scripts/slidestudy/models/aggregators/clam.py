"""CLAM: attention-based MIL whose attention also trains a classifier of tiles (Lu et al. 2021, arXiv 2004.09666)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from slidestudy.models.aggregators.attention import GatedAttention
from slidestudy.models.aggregators.base import Head, MilModel, Shape, encoder_layer, joined_to
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_rank, segment_softmax, weighted_sum


class Clam(MilModel):
    """What both forms share. Of one slide the bag is classified as by gated ABMIL; the clustering loss is CLAM's.

    Of each slide of known class the tiles of highest attention are taken for tiles of that class, those of lowest
    attention for tiles that are not, and the class's own tile classifier learns to tell them apart by
    cross-entropy (one of the two losses of the paper's code). With `exclusive` classes the tiles of highest
    attention are also negatives of all other classes. Without classes, for regression or survival, there is no
    clustering loss.

    One output is the logit of the second of two classes.

    Args:
        shape: What data and task decide.
        hidden: Width of the encoder layer.
        attention: Width of the attention layer.
        dropout: Dropout of hidden vectors, before attention as in the paper's code.
        sampled: Tiles taken from either end of a slide's attention, at most half of its tiles each.
        instance_weight: Weight of the clustering loss beside a slide loss of weight 1 (the paper's 0.3 : 0.7).
        exclusive: Whether a tile belongs to one class only.
    """

    branch_per_class: ClassVar[bool]
    """Whether each class has an attention branch and a row of the classifier of its own."""

    def __init__(
        self,
        shape: Shape,
        hidden: int = 512,
        attention: int = 256,
        dropout: float = 0.25,
        sampled: int = 8,
        instance_weight: float = 3 / 7,
        exclusive: bool = False,
    ) -> None:
        super().__init__(shape)
        self.sampled, self.instance_weight, self.exclusive = sampled, instance_weight, exclusive
        self.classes = max(2, self.n_outputs)
        branches, rows = (self.classes, self.classes) if self.branch_per_class else (1, self.n_outputs)
        self.post_encoder = encoder_layer(shape.dim, hidden).append(nn.Dropout(dropout))
        self.attention = GatedAttention(hidden, attention, branches)
        self.tile_classifiers = nn.ModuleList(nn.Linear(hidden, 2) for _ in range(self.classes))
        self.classifier = Head(hidden, rows, self.n_covariates)

    def _instances(
        self, packed: PackedBags, hidden: torch.Tensor, logits: torch.Tensor
    ) -> tuple[PackedBags, torch.Tensor, torch.Tensor] | None:
        return (packed, hidden, logits) if self.training else None

    def instance_loss(self, output: MilOutput, labels: torch.Tensor) -> torch.Tensor | None:
        """The weighted clustering loss, mean over the slides of known class; None where there is none.

        Args:
            output: What the model said in training mode.
            labels: The slides' classes, int64 (n_slides,); negative where unknown.

        Raises:
            ValueError: A class is beyond the model's.
        """
        if int(labels.max()) >= self.classes:
            raise ValueError(f"class {int(labels.max())}, the model has {self.classes}")
        if output.instances is None or not bool((labels >= 0).any()):
            return None
        packed, hidden, logits = output.instances
        total = hidden.new_zeros(())
        for chosen in range(self.classes):
            branch = logits[:, chosen if logits.shape[1] > 1 else 0]
            total = total + self._cluster(chosen, packed, hidden, branch, labels)
        return self.instance_weight * total / (labels >= 0).sum()

    def _cluster(
        self, chosen: int, packed: PackedBags, hidden: torch.Tensor, branch: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Sum over slides of the mean cross-entropy of one class's tile classifier."""
        most = (packed.lengths // 2).clamp(max=self.sampled)[packed.segment]
        rank, of_slide = segment_rank(branch, packed), labels[packed.segment]
        top = rank < most
        bottom = rank >= packed.lengths[packed.segment] - most
        inside, outside = of_slide == chosen, (of_slide >= 0) & (of_slide != chosen)
        used = (top | bottom) & inside
        if self.exclusive:
            used = used | (top & outside)
        # A slide of the class gives 2 x most tiles, of another class most.
        weight = 1 / torch.where(inside, 2 * most, most)[used].float()
        truth = (top & inside)[used].long()
        losses = functional.cross_entropy(self.tile_classifiers[chosen](hidden[used]), truth, reduction="none")
        return (weight * losses).sum()


class ClamSb(Clam):
    """CLAM with one attention branch for all classes."""

    branch_per_class = False

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden = self.post_encoder(self.standardiser(packed.features))
        logits = self.attention(hidden)
        attention = segment_softmax(logits[:, 0], packed)
        pooled = weighted_sum(hidden, attention, packed)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        slide, tiles = self.classifier(pooled, of_slides), self.classifier(hidden, of_tiles)
        instances = self._instances(packed, hidden, logits)
        return MilOutput(slide, tiles, logits[:, 0], attention, pooled, instances=instances)


class ClamMb(Clam):
    """CLAM with an attention branch and a classifier for each class.

    With one output there are two classes, and the logit is the second class's less the first's. The attention
    given is the second class's there; with several classes it is that of the class the slide is predicted to be
    of. The pooled vector is the branches' mean.
    """

    branch_per_class = True

    def _outputs(self, of_classes: torch.Tensor) -> torch.Tensor:
        """Class logits (n, classes) as the model's outputs (n, n_outputs)."""
        return of_classes[:, 1:] - of_classes[:, :1] if self.n_outputs == 1 else of_classes

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden = self.post_encoder(self.standardiser(packed.features))
        logits = self.attention(hidden)
        attention = segment_softmax(logits, packed)
        pooled = torch.stack([weighted_sum(hidden, branch, packed) for branch in attention.unbind(1)], 1)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        width = self.classifier.width
        classes = (pooled * self.classifier.weight[:, :width]).sum(-1) + self.classifier.bias
        classes = classes if of_slides is None else classes + of_slides
        shown = torch.ones_like(packed.lengths) if self.n_outputs == 1 else classes.detach().argmax(1)
        column = shown[packed.segment].unsqueeze(1)
        return MilOutput(
            self._outputs(classes),
            self._outputs(self.classifier(hidden, of_tiles)),
            logits.gather(1, column).squeeze(1),
            attention.gather(1, column).squeeze(1),
            pooled.mean(1),
            instances=self._instances(packed, hidden, logits),
        )
