"""State dicts: read from files without running code, keys renamed, and loaded only where they fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from slidestudy.errors import StudyError

State = dict[str, torch.Tensor]
WRAPPERS = ("state_dict", "model", "teacher")
"""Keys under which training scripts put the weights."""
PREFIXES = ("module.", "backbone.")
"""Prefixes that data parallelism and self-supervised methods put before the keys."""
HEADS = ("fc.", "head.", "heads.", "classifier.")
"""Classifiers, which an encoder has not got: their weights may be left over."""
COUNTERS = "num_batches_tracked"
"""Counters of batch normalisation, which old files lack and which change no feature."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers in key order, first 16 hex digits."""
    state, sha = model.state_dict(), hashlib.sha256()
    for key in sorted(state):
        sha.update(key.encode())
        sha.update(state[key].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def read_state(path: Path, where: str) -> State:
    """Reads a state dict from safetensors or a PyTorch file, which is never unpickled as code.

    Args:
        path: The file.
        where: What it belongs to, for the messages.

    Returns:
        The tensors, usual wrappings and prefixes taken off.

    Raises:
        StudyError: The file cannot be read, or holds no state dict.
    """
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        remedy = "give a safetensors file, or a PyTorch file that holds a plain state dict"
        raise StudyError(f"cannot be read ({first_line(error)})", where, remedy) from None
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items()):
        raise StudyError("holds no state dict", where, "save the model's state_dict()")
    for prefix in PREFIXES:
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def rename_keys(state: State, rules: Mapping[str, str | None], where: str) -> State:
    """Applies an entry's `rename` to the keys, rule after rule.

    Args:
        state: The tensors.
        rules: Regular expression -> replacement; a key in which a rule without replacement matches is dropped.
        where: What the rules belong to, for the messages.

    Raises:
        StudyError: A rule is no regular expression, or two keys become one.
    """
    renamed: State = {}
    for key, value in state.items():
        new: str | None = key
        for pattern, replacement in rules.items():
            try:
                if new is not None and re.search(pattern, new):
                    new = None if replacement is None else re.sub(pattern, replacement, new)
            except re.error as error:
                remedy = "give a Python regular expression, and its groups as \\1 in the replacement"
                raise StudyError(
                    f"the rule '{pattern}' of `rename` cannot be applied ({error})", where, remedy
                ) from None
        if new in renamed:
            raise StudyError(f"two keys become '{new}'", where, "correct `rename`")
        if new is not None:
            renamed[new] = value
    return renamed


def _misfits(model: nn.Module, state: State) -> list[str]:
    """What of a state dict does not fit a model, in words."""
    own = model.state_dict()
    missing = sorted(k for k in own.keys() - state.keys() if not k.endswith(COUNTERS))
    shapes = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    left = sorted(k for k in state.keys() - own.keys() if not k.startswith(HEADS))
    return [f"missing {k}" for k in missing] + [f"other shape {k}" for k in shapes] + [f"unknown {k}" for k in left]


def load_state(
    model: nn.Module, state: State, where: str, convert: Callable[[State, nn.Module], State] | None = None
) -> None:
    """Loads weights into a model; a classifier that it has not got may be left over, nothing else.

    Args:
        model: The model.
        state: The tensors.
        where: Where they come from, for the messages.
        convert: Brings another layout of this architecture into the model's; tried where the state does not fit as
            it is.

    Raises:
        StudyError: The weights do not fit, with the first keys that do not.
    """
    wrong = _misfits(model, state)
    if wrong and convert is not None:
        try:
            converted = convert(dict(state), model)
        except Exception:  # Not that layout either: the first finding is told.
            converted = state
        if not _misfits(model, converted):
            state, wrong = converted, []
    if wrong:
        listed = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        remedy = "correct `architecture` or `arguments`, or map the keys with `rename`"
        raise StudyError(f"does not fit the architecture: {listed}", where, remedy)
    own = model.state_dict()
    model.load_state_dict({**own, **{k: v for k, v in state.items() if k in own}})
