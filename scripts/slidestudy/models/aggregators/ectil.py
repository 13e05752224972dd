"""ECTIL: a slide's fraction as the attention-weighted mean of its tiles' fractions."""

from __future__ import annotations

from torch.nn import functional

from slidestudy.models.aggregators.abmil import AttentionModel
from slidestudy.models.aggregators.base import joined_to
from slidestudy.models.packing import MilOutput, PackedBags
from slidestudy.models.segments import segment_logsumexp


class Ectil(AttentionModel):
    """ECTIL (arXiv 2501.14379).

    Linear + ReLU; gated attention with a softmax over tiles; per tile Dropout, Dropout1d, Linear and sigmoid;
    slide fraction = sum of attention x tile fraction. Published widths and dropouts are the defaults. The raw
    output is the logit of that fraction. Several outputs share the attention. The head is per tile, so that
    covariates, which belong to the slide, add a linear term to the slide's logit.
    """

    def forward(self, packed: PackedBags) -> MilOutput:
        """Scores packed bags."""
        hidden, attention_logits, attention, pooled = self.attend(packed)
        logits = self.classifier(hidden)
        # log(sum a s) - log(sum a (1 - s)): the logit of the weighted mean, finite for every fraction.
        weight = (attention_logits - segment_logsumexp(attention_logits, packed)[packed.segment]).unsqueeze(-1)
        slide = segment_logsumexp(weight + functional.logsigmoid(logits), packed)
        slide = slide - segment_logsumexp(weight + functional.logsigmoid(-logits), packed)
        of_slides, of_tiles = joined_to(self.classifier, self.scaled_covariates(packed), packed)
        if of_slides is not None:
            slide, logits = slide + of_slides, logits + of_tiles
        return MilOutput(slide, logits, attention_logits, attention, pooled)
