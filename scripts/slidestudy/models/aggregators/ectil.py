"""ECTIL: a slide's fraction as the attention-weighted mean of its tiles' fractions."""

from __future__ import annotations

from torch.nn import functional

from slidestudy.models.aggregators.abmil import AttentionModel
from slidestudy.models.aggregators.base import CLIP, joined_to
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_logsumexp, segment_softmax, weighted_sum


class Ectil(AttentionModel):
    """ECTIL (arXiv 2501.14379).

    Linear + ReLU; gated attention with a softmax over tiles; per tile Dropout, Dropout1d, Linear and sigmoid;
    slide fraction = sum of attention x tile fraction. Published widths and dropouts are the defaults. The raw
    output is the logit of that fraction. Several outputs share the attention. The head is per tile, so that
    covariates, which belong to the slide, add a linear term to the slide's logit.

    Args:
        dim: Length of a feature vector.
        hidden: Width of the encoder layer.
        attention: Width of the attention layer.
        dropout: Dropout of hidden vectors.
        tile_dropout: Dropout1d of whole tiles.
        n_outputs: Raw outputs per slide.
        n_covariates: Covariates joined to the outputs.
        clip: See Standardiser.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.4,
        tile_dropout: float = 0.1,
        n_outputs: int = 1,
        n_covariates: int = 0,
        clip: float | None = CLIP,
    ) -> None:
        super().__init__(dim, hidden, attention, dropout, tile_dropout, True, n_outputs, n_covariates, clip)

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden, attention_logits = self.embed(packed.features)
        attention = segment_softmax(attention_logits, packed)
        logits = self.classifier(hidden)
        # log(sum a s) - log(sum a (1 - s)): the logit of the weighted mean, finite for every fraction.
        weight = (attention_logits - segment_logsumexp(attention_logits, packed)[packed.segment]).unsqueeze(-1)
        slide = segment_logsumexp(weight + functional.logsigmoid(logits), packed)
        slide = slide - segment_logsumexp(weight + functional.logsigmoid(-logits), packed)
        pooled = weighted_sum(hidden, attention, packed)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        if of_slides is not None:
            slide, logits = slide + of_slides, logits + of_tiles
        return MilOutput(slide, logits, attention_logits, attention, pooled)
