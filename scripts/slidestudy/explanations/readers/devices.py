"""The device on which a model runs, with kernels that give the same bytes in every run."""

from __future__ import annotations

import os

import torch

from slidestudy.errors import StudyError

__all__ = ["prepare"]


def prepare(device: str) -> torch.device:
    """Chooses the device.

    Args:
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        StudyError: A GPU is asked for, and there is none.
    """
    # Read when the GPU is first used; without it some of its matrix products may differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise StudyError("there is no GPU", "explanations.reader.device", "set it to auto or cpu")
    return torch.device("cuda" if found and device != "cpu" else "cpu")
