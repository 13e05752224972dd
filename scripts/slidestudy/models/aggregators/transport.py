"""Co-attention of tiles with groups of a second modality by optimal transport: MOTCAT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.models.aggregators.base import Shape
from slidestudy.models.aggregators.coattention import Coattended, CoattentionModel, weighted_means
from slidestudy.models.packing import PackedBags

LEAST_REGULARISATION = 0.01
"""Below it, at costs of up to 1, the kernel of the transport would leave the range of numbers."""
ITERATIONS, TOLERANCE = 1000, 1e-9
"""Of Sinkhorn's algorithm: most steps, and the relative change at which it ends."""


class Motcat(CoattentionModel):
    """Multimodal optimal-transport co-attention (Xu & Chen, ICCV 2023, arXiv 2306.08330).

    As `Mcat`, but what tiles give to groups is a plan of unbalanced optimal transport (`transport_plan`). A group's
    token is the mean of tiles' hidden vectors weighed by its part of the plan, which is scaled to sum to 1. A tile's
    attention is its share of the whole plan. The plan is computed without gradient, as by the authors: gradients take
    it for constant, those with respect to features too. All tiles take part, slide by slide; time and memory grow
    with tiles x groups.

    Args:
        shape: What data and task decide.
        hidden: See CoattentionModel.
        attention: See there.
        dropout: See there.
        layers: See there.
        heads: See there.
        groups: See there.
        regularisation: Weight of the plan's entropy, at costs of up to 1 (the authors' 0.1).
        marginal_relaxation: Weight of keeping to the marginals, all tiles alike and all groups alike (their 0.5).
    """

    def __init__(
        self,
        shape: Shape,
        hidden: int = 256,
        attention: int = 256,
        dropout: float = 0.25,
        layers: int = 2,
        heads: int = 8,
        groups: Sequence[Sequence[int]] | None = None,
        regularisation: float = 0.1,
        marginal_relaxation: float = 0.5,
    ) -> None:
        super().__init__(shape, hidden, attention, dropout, layers, heads, groups)
        if regularisation < LEAST_REGULARISATION:
            raise ValueError(f"a regularisation of {regularisation}, at least {LEAST_REGULARISATION} is needed")
        if marginal_relaxation <= 0:
            raise ValueError(f"a marginal_relaxation of {marginal_relaxation}, it must be above 0")
        self.regularisation, self.marginal_relaxation = regularisation, marginal_relaxation

    def coattend(self, hidden: torch.Tensor, queries: torch.Tensor, packed: PackedBags) -> Coattended:
        """Attention by transport, see `CoattentionModel.coattend`."""
        bags = hidden.split(packed.lengths.tolist())
        plans = [self._plan(bag.detach(), query.detach()) for bag, query in zip(bags, queries, strict=True)]
        # The logarithm before float32, in which the smallest shares would be 0.
        shares, log_attention = (
            torch.from_numpy(np.concatenate(parts)).to(hidden.device, torch.float32)
            for parts in ([p / p.sum(0) for p in plans], [np.log(p.sum(1) / p.sum()) for p in plans])
        )
        return Coattended(weighted_means(bags, shares, packed), log_attention)

    def token_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """The tile's hidden vector itself."""
        return hidden

    def _plan(self, bag: torch.Tensor, tokens: torch.Tensor) -> NDArray[np.float64]:
        """The plan (n_tiles, n_groups) between the tiles and the groups' tokens of one slide."""
        # Without the trick of a matrix product, whose rounding would depend on the number of tiles.
        distance = torch.cdist(bag.float(), tokens.float(), compute_mode="donot_use_mm_for_euclid_dist")
        cost = distance.square().double().cpu().numpy()
        return transport_plan(cost, self.regularisation, self.marginal_relaxation)


def transport_plan(cost: NDArray[np.float64], regularisation: float, marginal_relaxation: float) -> NDArray[np.float64]:
    """Unbalanced entropic optimal transport between uniform marginals (Sinkhorn, of POT).

    The plan P minimises <P, C> + regularisation KL(P, ab') + marginal_relaxation (KL(P1, a) + KL(P'1, b)), C being
    the cost over its maximum.

    Args:
        cost: Squared distances (n_tiles, n_groups).
        regularisation: Above 0.
        marginal_relaxation: Above 0; the larger, the closer the marginals are kept to.

    Returns:
        The plan (n_tiles, n_groups), all above 0.
    """
    from ot.unbalanced import sinkhorn_knopp_unbalanced

    rows, columns = cost.shape
    scaled = cost / max(float(cost.max()), np.finfo(float).tiny)
    plan: NDArray[np.float64] = sinkhorn_knopp_unbalanced(
        np.full(rows, 1 / rows),
        np.full(columns, 1 / columns),
        scaled,
        regularisation,
        marginal_relaxation,
        reg_type="kl",
        numItermax=ITERATIONS,
        stopThr=TOLERANCE,
    )
    return plan
