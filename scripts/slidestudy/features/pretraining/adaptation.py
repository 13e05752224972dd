"""What of a network is fine-tuned: its last blocks, low-rank adapters, or all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from timm.models import group_parameters
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.features.pretraining.backbone import Backbone

ADAPTED = r"(^|.*\.)attn\.(qkv|proj)$"
"""Layers of a vision transformer that get low-rank adapters."""


def choose_trainable(backbone: Backbone, recipe: Mapping[str, Any], encoder: str) -> set[str]:
    """Freezes what is not to be trained, or puts low-rank adapters (Hu et al., ICLR 2022) into the model.

    Args:
        backbone: Changed in place.
        recipe: `trainable blocks lora_rank`.
        encoder: Its name, for messages.

    Returns:
        Names of the frozen parameters.

    Raises:
        StudyError: The model has not as many blocks, or no attention layers for adapters.
    """
    where = f"encoder {encoder}"
    if recipe["trainable"] == "lora":
        layers = [n for n, m in backbone.model.named_modules() if re.match(ADAPTED, n) and isinstance(m, nn.Linear)]
        if not layers:
            raise StudyError(
                "has no attention layers that adapters could go into", where, "use trainable: blocks, or a ViT of timm"
            )
        rank = recipe["lora_rank"]
        config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=ADAPTED, bias="none")
        backbone.model = get_peft_model(backbone.model, config)
    elif recipe["trainable"] == "blocks":
        last = last_blocks(backbone.model, recipe["blocks"], where)
        for key, parameter in backbone.model.named_parameters():
            parameter.requires_grad_(key in last)
    return {key for key, parameter in backbone.named_parameters() if not parameter.requires_grad}


def last_blocks(model: Any, count: int, where: str) -> set[str]:
    """Names of the parameters of a timm model's last blocks, and of the norms that follow them.

    A block is a stage of a CNN (of a DenseNet, a dense block) and a transformer block of a ViT.

    Args:
        model: The model.
        count: How many blocks.
        where: The encoder, for messages.

    Raises:
        StudyError: The model has fewer, or does not say what its blocks are.
    """
    if not hasattr(model, "group_matcher"):
        raise StudyError("does not say what its blocks are", where, "use trainable: all, or another architecture")
    groups = [set(names) for names in group_parameters(model, model.group_matcher(coarse=True)).values()]
    sizes = {key: parameter.ndim for key, parameter in model.named_parameters()}
    blocks: list[set[str]] = []
    for names in groups:
        # Norms that follow a block train with it.
        if blocks and all(sizes[key] == 1 for key in names):
            blocks[-1] |= names
        else:
            blocks.append(names)
    if count >= len(blocks):
        what = f"has {len(blocks) - 1} blocks after its stem, fewer than pretraining.blocks: {count}"
        raise StudyError(what, where, "lower blocks, or use trainable: all")
    return set().union(*blocks[-count:])


def freeze_statistics(backbone: Backbone, frozen: set[str]) -> None:
    """Keeps the running means of frozen batch norms, and their dropout, as they are in use.

    Args:
        backbone: In training mode.
        frozen: Names of the frozen parameters.
    """
    for name, module in backbone.named_modules():
        own = {f"{name}.{key}" for key, _ in module.named_parameters()}
        if own and own <= frozen:
            module.eval()


def merged(backbone: Backbone) -> nn.Module:
    """The plain timm model, adapters merged into its weights."""
    model = backbone.model
    return model.merge_and_unload() if isinstance(model, PeftModel) else model
