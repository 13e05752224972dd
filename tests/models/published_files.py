"""State dicts in the layouts of published weights, their values made up, and their formulas in plain numpy."""

from __future__ import annotations

import numpy as np
import torch

State = dict[str, torch.Tensor]


def ectil_state(seed: int = 0) -> State:
    """A state dict with the keys and shapes of ECTIL's published checkpoints, its values made up."""
    torch.manual_seed(seed)
    shapes = {
        "net.post_encoder.2": (512, 2048),
        "net.classifier.2": (1, 512),
        "net.attention.attention": (1, 128),
        "net.attention.gate.0": (128, 512),
        "net.attention.attention_hidden.0": (128, 512),
    }
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape) * 2 / shape[1] ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0]) * 0.3
    return state


def crc_state(seed: int = 0) -> State:
    """A state dict with the keys and shapes of the CRC prognostic model, its values made up."""
    torch.manual_seed(seed)
    state = {}
    for name, shape in {"encoder.0": (256, 2048), "attention.0": (128, 256), "attention.2": (1, 128)}.items():
        state[f"{name}.weight"] = torch.randn(shape) * 2 / shape[1] ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0]) * 0.3
    state |= {
        "head.1.weight": torch.rand(256),
        "head.1.bias": torch.randn(256),
        "head.1.running_mean": torch.randn(256),
    }
    state |= {"head.1.running_var": torch.rand(256) + 0.1, "head.1.num_batches_tracked": torch.tensor(504)}
    return state | {"head.3.weight": torch.randn(1, 256), "head.3.bias": torch.randn(1)}


def linear(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_hand(kind: str, state: State, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Slide output, tile logits and attention logits from the file's own keys, by the published description."""
    w = {key: value.double().numpy() for key, value in state.items()}
    if kind == "ectil":
        hidden = np.maximum(linear(w, "net.post_encoder.2", x), 0)
        gate = sigmoid(linear(w, "net.attention.gate.0", hidden))
        attention = linear(
            w, "net.attention.attention", np.tanh(linear(w, "net.attention.attention_hidden.0", hidden)) * gate
        )[:, 0]
        logits = linear(w, "net.classifier.2", hidden)[:, 0]
        return float((softmax(attention) * sigmoid(logits)).sum()), logits, attention
    hidden = np.maximum(linear(w, "encoder.0", x), 0)
    attention = linear(w, "attention.2", np.tanh(linear(w, "attention.0", hidden)))[:, 0]

    def head(vectors: np.ndarray) -> np.ndarray:
        scaled = (vectors - w["head.1.running_mean"]) / np.sqrt(w["head.1.running_var"] + 1e-5)
        return linear(w, "head.3", scaled * w["head.1.weight"] + w["head.1.bias"])[:, 0]

    return float(head((softmax(attention)[:, None] * hidden).sum(0)[None])[0]), head(hidden), attention
