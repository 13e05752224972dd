"""What some published encoders put behind a timm network, and the stem of one of them; only the shapes of their weights
are followed, as their authors' repositories state them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import nn
from torch.nn import functional

from slidestudy.errors import StudyError


class ConvStem(nn.Module):
    """Patch embedding of CTransPath: two strided 3x3 convolutions and a 1x1, instead of one 4x4 (Wang et al. 2022).

    Args:
        img_size: Image side, px.
        patch_size: Always 4.
        in_chans: Channels of the image.
        embed_dim: Channels of the patches.
        norm_layer: Normalisation of the patches, or None.
        **_: What else timm hands to a patch embedding.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Any = None,
        **_: Any,
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size = to_2tuple(img_size), to_2tuple(patch_size)
        self.grid_size = tuple(side // patch_size for side in self.img_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        channels = (in_chans, embed_dim // 8, embed_dim // 4)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.proj = nn.Sequential(*layers, nn.Conv2d(channels[-1], embed_dim, 1))
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeds images (n, c, h, w) as (n, h / 4, w / 4, embed_dim)."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class _MultiheadPool(nn.Module):
    """One learnt query attends to all tokens, by PyTorch's own attention (CoCa, Yu et al. 2022; CONCH)."""

    def __init__(self, width: int, dim: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, dim))
        self.attn = nn.MultiheadAttention(dim, heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(dim), nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, tokens, tokens, need_weights=False)[0][:, 0]


class _LinearPool(nn.Module):
    """The same with projections that have no bias (CONCH v1.5)."""

    def __init__(self, width: int, dim: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, dim))
        self._heads = heads
        self.ln_q, self.ln_k = nn.LayerNorm(dim), nn.LayerNorm(width)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(width, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        query, keys, values = (t.unflatten(-1, (self._heads, -1)).transpose(1, 2) for t in (query, keys, values))
        pooled = functional.scaled_dot_product_attention(query, keys, values)
        return self.to_out(pooled.transpose(1, 2).flatten(2))[:, 0]


class AttentionHead(nn.Module):
    """Attention pooling of all tokens and a layer normalisation.

    Args:
        width: Length of a token.
        dim: Length of the vector.
        heads: Attention heads.
        bias: Whether the projections of the attention have a bias.
    """

    def __init__(self, width: int, dim: int, heads: int = 8, bias: bool = True) -> None:
        super().__init__()
        self.pool = (_MultiheadPool if bias else _LinearPool)(width, dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pools tokens (n, tokens, width) to (n, dim)."""
        return self.norm(self.pool(tokens))


class ProjectionHead(nn.Module):
    """Two linear layers with a GELU between them, to vectors of length 1 (KEEP).

    Args:
        width: Length of the network's own vector.
        dim: Length of the projected one.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Projects vectors (n, width) to (n, dim)."""
        return functional.normalize(self.layers(vectors), dim=-1)


class TrunkWithHead(nn.Module):
    """A timm network and a head; their weights are named `trunk.*` and `head.*`.

    Args:
        trunk: The network.
        options: `kind` (`attention` or `projection`) and the head's arguments.

    Raises:
        StudyError: There is no such head.
    """

    def __init__(self, trunk: Any, options: dict[str, Any]) -> None:
        super().__init__()
        kinds: dict[Any, type[nn.Module]] = {"attention": AttentionHead, "projection": ProjectionHead}
        arguments = dict(options)
        kind = kinds.get(arguments.pop("kind", None))
        if kind is None:
            remedy = f"`arguments: {{head: {{kind: ...}}}}` knows: {', '.join(map(str, kinds))}"
            raise StudyError("there is no such head", remedy=remedy)
        self.trunk = trunk
        try:
            self.head = kind(int(trunk.num_features), **arguments)
        except TypeError as error:
            raise StudyError(f"the head cannot be made ({error})", remedy="correct `arguments: {head: ...}`") from None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encodes images (n, 3, s, s) as vectors (n, dim)."""
        tokens = isinstance(self.head, AttentionHead)
        return self.head(self.trunk.forward_features(images) if tokens else self.trunk(images))
