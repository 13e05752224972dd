"""Losses of every task, as sums over slides, so that a batch can be worked through in several packs.

A batch's loss is the sum of its slides' losses divided by the number of labels in the batch, whatever packs it is
cut into.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from slidestudy.models.survival import CoxSurvival, DiscreteSurvival
from slidestudy.models.targets import Classification, Multiclass, Regression, Targets, Task


def masked_squared_error(outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Squared errors of the labels that are there, summed over each slide's targets.

    Args:
        outputs: (n, k).
        targets: (n, k).
        mask: Whether there is a label, bool (n, k).

    Returns:
        (n,).
    """
    return torch.where(mask, (outputs - targets).square(), 0.0).sum(1)


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, positive_weight: float
) -> torch.Tensor:
    """Cross-entropy of 0/1 labels, that of the positive ones times a weight; all (n, 1), returns (n,)."""
    weight = torch.tensor(positive_weight, device=logits.device)
    each = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")
    return torch.where(mask, each, 0.0).sum(1)


def class_cross_entropy(
    logits: torch.Tensor, classes: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of a softmax, each slide's times the weight of its class.

    Args:
        logits: (n, n_classes).
        classes: Class numbers (n, 1).
        mask: Whether there is a label, bool (n, 1).
        weights: (n_classes,).

    Returns:
        (n,).
    """
    # Not `reduction="none"` with weights of its own mean: a batch is normalised by its number of labels.
    number = classes[:, 0].long()
    each = -functional.log_softmax(logits, 1).gather(1, number.unsqueeze(1))[:, 0] * weights.to(logits.device)[number]
    return torch.where(mask[:, 0], each, 0.0)


def cox_loss(risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    """Negative log partial likelihood of Cox, per event, ties after Efron (1977, JASA 72:557).

    Slides with an equal time of event count as if they had left one after the other, so that each sees the mean of
    the risk sets that this gives. Without ties it is Breslow's.

    Args:
        risk: Log relative hazards (n,).
        time: (n,).
        event: 1 for an event, 0 for a censoring, (n,).

    Returns:
        The loss, scalar; 0 without an event.
    """
    order = torch.argsort(time, descending=True, stable=True)
    risk, time, happened = risk.double()[order], time[order], event[order] > 0
    if not bool(happened.any()):
        return risk.sum() * 0.0
    _, group, sizes = torch.unique_consecutive(time, return_inverse=True, return_counts=True)
    last = sizes.cumsum(0) - 1
    at_risk = risk.logcumsumexp(0)[last]
    of, dying = group[happened], risk[happened]
    # Logarithm of the summed hazards of those who die at a time; of a time without deaths it is not used.
    top = torch.full_like(at_risk, -torch.inf).scatter_reduce(0, of, dying.detach(), "amax")
    summed = torch.zeros_like(at_risk).index_add(0, of, (dying - top[of]).exp())
    deaths = torch.bincount(of, minlength=len(sizes))
    # The place of each event among those of its time, from 0.
    place = torch.arange(len(of), device=of.device) - (deaths.cumsum(0) - deaths)[of]
    share = (summed[of].log() + top[of] - at_risk[of]).exp().clamp(max=1.0) * (place / deaths[of])
    return (at_risk[of] + torch.log1p(-share) - dying).mean().float()


def hazard_loss(logits: torch.Tensor, time: torch.Tensor, event: torch.Tensor, cuts: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of hazards in bins of time (Gensheimer and Narasimhan 2019, PeerJ 7:e6257).

    A slide with an event lived through the bins before the event's and died in that one; a censored slide lived
    through the bins before that of its censoring, and says nothing of that one (our choice).

    Args:
        logits: Of the hazards, (n, n_bins).
        time: (n,).
        event: 1 for an event, 0 for a censoring, (n,).
        cuts: Inner edges of the bins (n_bins - 1,); a time at an edge falls in the later bin.

    Returns:
        (n,).
    """
    bins = torch.bucketize(time.contiguous(), cuts.to(time.device), right=True).unsqueeze(1)
    lived = torch.arange(logits.shape[1], device=logits.device) < bins
    survived = (functional.softplus(logits) * lived).sum(1)
    died = functional.softplus(-logits).gather(1, bins)[:, 0]
    return survived + torch.where(event > 0, died, 0.0)


def contrastive_loss(vectors: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, eq. 2): same class near, others far.

    Args:
        vectors: Slides' vectors (n, width), of any length.
        labels: Class numbers (n,).
        temperature: Of the softmax over similarities.

    Returns:
        Mean over the slides that share their class with another of the batch, scalar; 0 if none does.
    """
    unit = functional.normalize(vectors.float(), dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    log_share = similarity - similarity.logsumexp(1, keepdim=True)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
    partners = same.sum(1)
    if not bool((partners > 0).any()):
        return unit.sum() * 0.0
    each = -torch.where(same, log_share, 0.0).sum(1) / partners.clamp(min=1)
    return each[partners > 0].mean()


@dataclass(frozen=True)
class ClassWeights:
    """Weights against class imbalance, from the training part.

    Attributes:
        positive: Weight of class 1 of a 0/1 label: negatives per positive.
        classes: Weight of each of several classes, mean 1 over the training slides.
    """

    positive: float = 1.0
    classes: torch.Tensor | None = None


def class_weights(task: Task, train: Targets) -> ClassWeights:
    """The weights with which every class pulls equally; 1 where a class is missing."""
    values = train.values[train.mask]
    if isinstance(task, Classification):
        positive = int((values > 0.5).sum())
        return ClassWeights(positive=(len(values) - positive) / positive if 0 < positive < len(values) else 1.0)
    if isinstance(task, Multiclass):
        counts = torch.bincount(values.long(), minlength=task.n_outputs)
        present = int((counts > 0).sum())
        balanced = len(values) / (present * counts.clamp(min=1).double())
        return ClassWeights(classes=torch.where(counts > 0, balanced, 1.0).float())
    return ClassWeights()


def slide_losses(
    task: Task, raw: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, weights: ClassWeights
) -> torch.Tensor:
    """The loss of each slide, summed over its labels, (n,); of every task but Cox's, whose slides are not apart.

    Args:
        task: The task.
        raw: Raw outputs (n, n_outputs).
        values: As in `Targets`.
        mask: As in `Targets`.
        weights: Against class imbalance.
    """
    raw = raw if raw.dtype == torch.float64 else raw.float()
    values = values.to(raw.dtype)
    if isinstance(task, Regression):
        return masked_squared_error(torch.sigmoid(raw), values, mask)
    if isinstance(task, Classification):
        return binary_cross_entropy(raw, values, mask, weights.positive)
    if isinstance(task, Multiclass):
        known = torch.ones(task.n_outputs) if weights.classes is None else weights.classes.to(raw.dtype)
        return class_cross_entropy(raw, values, mask, known)
    if isinstance(task, DiscreteSurvival):
        each = hazard_loss(raw, values[:, 0], values[:, 1], torch.tensor(task.cuts, dtype=torch.float32))
        return torch.where(mask.all(1), each, 0.0)
    if isinstance(task, CoxSurvival):
        raise TypeError("Cox's loss is one of all slides, not of each")
    return masked_squared_error(raw, values, mask)


def label_counts(task: Task, mask: torch.Tensor) -> torch.Tensor:
    """How many labels of each slide the loss counts, (n,)."""
    if isinstance(task, CoxSurvival | DiscreteSurvival):
        return mask.all(1).float()
    return mask.sum(1).float()


def part_loss(task: Task, raw: torch.Tensor, targets: Targets, weights: ClassWeights) -> torch.Tensor:
    """The loss of a whole part, scalar: the mean over its labels; Cox's over its events."""
    if isinstance(task, CoxSurvival):
        known = targets.mask.all(1)
        return cox_loss(raw[known, 0], targets.values[known, 0], targets.values[known, 1])
    total = slide_losses(task, raw, targets.values, targets.mask, weights).sum()
    return total / label_counts(task, targets.mask).sum()
