"""From the tokens or maps of a network to one vector per tile."""

from __future__ import annotations

from typing import Any

import torch

from slidestudy.errors import StudyError

REMEDY = "set `pooling: mean`, or another that the model has"


def pool_tokens(tokens: torch.Tensor, pooling: str, prefix: int, class_token: bool) -> torch.Tensor:
    """Pools the tokens of a transformer.

    Args:
        tokens: (n, tokens, d): the class token first where there is one, then registers, then one token per patch.
        pooling: `cls`, `mean` (of the patch tokens only) or `cls+mean` (both, concatenated).
        prefix: How many tokens stand before those of the patches.
        class_token: Whether the first of them is a class token.

    Returns:
        (n, d), or (n, 2 d) for `cls+mean`.

    Raises:
        StudyError: A class token is asked for, and the model has none.
    """
    if pooling != "mean" and not class_token:
        raise StudyError(f"pooling {pooling} is impossible: the model has no class token", remedy=REMEDY)
    parts = [] if pooling == "mean" else [tokens[:, 0]]
    if pooling != "cls":
        parts.append(tokens[:, prefix:].mean(dim=1))
    return torch.cat(parts, dim=-1)


def pool_map(maps: torch.Tensor, pooling: str, channels_last: bool = False) -> torch.Tensor:
    """Pools the last map of a convolutional or hierarchical network.

    Args:
        maps: (n, d, h, w), or (n, h, w, d) where channels stand last.
        pooling: Only `mean` is possible.
        channels_last: Whether channels stand last.

    Returns:
        (n, d).

    Raises:
        StudyError: Another pooling is asked for.
    """
    if pooling != "mean":
        raise StudyError(f"pooling {pooling} is impossible: the model gives maps, not tokens", remedy=REMEDY)
    return maps.mean(dim=(1, 2) if channels_last else (2, 3))


def pool(output: Any, pooling: str, prefix: int, class_token: bool, channels_last: bool = False) -> torch.Tensor:
    """Pools tokens (n, tokens, d) or maps (n, d, h, w); see `pool_tokens` and `pool_map`."""
    if torch.is_tensor(output) and output.ndim == 3:
        return pool_tokens(output, pooling, prefix, class_token)
    if torch.is_tensor(output) and output.ndim == 4:
        return pool_map(output, pooling, channels_last)
    raise StudyError(f"pooling {pooling} is impossible: the model gives neither tokens nor maps", remedy=REMEDY)


def one_vector(output: Any) -> torch.Tensor:
    """A model's own output, which must be one vector (n, d) per tile.

    Raises:
        StudyError: It is not.
    """
    if torch.is_tensor(output) and output.ndim == 2:
        return output
    shape = tuple(output.shape) if torch.is_tensor(output) else type(output).__name__
    what = f"gives an output of shape {shape}, not one vector per tile"
    raise StudyError(what, remedy="set `pooling: cls`, `mean` or `cls+mean`, or `arguments: {global_pool: avg}` (timm)")
