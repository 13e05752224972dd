"""Networks as encoders, by the example of timm: where weights come from, what is refused, and timm's own vectors."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from slidestudy.errors import StudyError
from slidestudy.features.encoders import build_encoder
from slidestudy.features.state_dicts import weights_digest
from slidestudy.features.torch_encoder import TorchEncoder

ARCHITECTURE, DIM = "test_resnet", 96
"""timm's smallest residual network: 0.4 million parameters."""
SIZE = 64


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A model with its classifier, as published weights have it, and running statistics that are not the default."""
    torch.manual_seed(3)
    whole = timm.create_model(ARCHITECTURE, num_classes=10)
    whole.train()
    with torch.no_grad():
        whole(torch.randn(8, 3, SIZE, SIZE))
    return whole.eval()


@pytest.fixture(scope="module")
def tiles() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


def spec(weights: str | Path = "none", **more: Any) -> dict[str, Any]:
    return {"name": "net", "backend": "timm", "architecture": ARCHITECTURE, "weights": str(weights), **more}


def encoder(weights: str | Path = "none", seed: int = 1, **more: Any) -> TorchEncoder:
    return TorchEncoder(spec(weights, **more), SIZE, seed, threads=1)


def save(path: Path, state: Any) -> Path:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def forward(model: nn.Module, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Timm's own features before the classifier, normalised by its own configuration."""
    data = timm.data.resolve_model_data_config(model)
    mean, std = (np.asarray(data[key], np.float32) for key in ("mean", "std"))
    batch = torch.from_numpy(((tiles / np.float32(255) - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return model.forward_head(model.forward_features(batch), pre_logits=True).numpy()


# Weights


def test_untrained_weights_say_so_and_depend_on_the_seed_only(tiles: npt.NDArray[np.uint8]) -> None:
    first, again, other = encoder(seed=1), encoder(seed=1), encoder(seed=2)
    assert "UNTRAINED" in first.identity.weights
    assert "seed 1" in first.identity.weights
    assert first.identity == again.identity
    np.testing.assert_array_equal(first.encode(tiles), again.encode(tiles))
    assert first.identity.weights_digest != other.identity.weights_digest
    assert not np.array_equal(first.encode(tiles), other.encode(tiles))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.bin"])
def test_weights_of_a_file_give_timms_own_features(
    tmp_path: Path, model: nn.Module, tiles: npt.NDArray[np.uint8], name: str
) -> None:
    loaded = encoder(save(tmp_path / name, model.state_dict()))
    features = loaded.encode(tiles)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, forward(model, tiles), rtol=1e-4, atol=1e-5)
    assert loaded.identity.weights == f"file: {name}"
    assert loaded.identity.dim == DIM
    headless = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    without = timm.create_model(ARCHITECTURE, num_classes=0)
    without.load_state_dict(headless)
    assert loaded.identity.weights_digest == weights_digest(without)


WRAPPINGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "teacher with backbone": lambda state: {"teacher": {f"backbone.{k}": v for k, v in state.items()}},
    "data parallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "nested": lambda state: {"state_dict": {f"module.backbone.{k}": v for k, v in state.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_usual_wrappings_of_a_state_dict_are_taken_off(
    tmp_path: Path, model: nn.Module, tiles: npt.NDArray[np.uint8], wrapping: str
) -> None:
    path = save(tmp_path / "weights.pth", WRAPPINGS[wrapping](dict(model.state_dict())))
    np.testing.assert_allclose(encoder(path).encode(tiles), forward(model, tiles), rtol=1e-4, atol=1e-5)


def test_other_weights_have_another_digest(tmp_path: Path, model: nn.Module) -> None:
    state = {key: value.clone() for key, value in model.state_dict().items()}
    first = encoder(save(tmp_path / "a.safetensors", state)).identity.weights_digest
    assert encoder(save(tmp_path / "b.pth", state)).identity.weights_digest == first
    last = next(key for key in reversed(state) if not key.startswith("fc.") and state[key].is_floating_point())
    state[last].view(-1)[0] += 1e-3
    assert encoder(save(tmp_path / "c.safetensors", state)).identity.weights_digest != first


def without_two(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in state.items() if k not in ("conv1.0.weight", "bn1.weight")}


def reshaped(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "bn1.weight": torch.zeros(3)}


def with_more(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "extra.weight": torch.zeros(3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_two, "missing bn1.weight, missing conv1.0.weight"),
        (reshaped, "other shape bn1.weight"),
        (with_more, "unknown extra.weight"),
        (lambda state: {}, r"missing .* and \d+ more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_keys(
    tmp_path: Path, model: nn.Module, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    path = save(tmp_path / "weights.pth", change(dict(model.state_dict())))
    with pytest.raises(StudyError, match=f"does not fit the architecture.*{message}") as caught:
        encoder(path)
    assert caught.value.problems[0].where == f"encoder net, weights {path}"


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


def test_a_pickle_with_code_is_refused_and_never_run(tmp_path: Path, model: nn.Module) -> None:
    state = {**model.state_dict(), "trap": Trap(tmp_path / "sprung")}
    torch.save(state, tmp_path / "weights.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    for name in ("weights.pth", "plain.pth"):
        with pytest.raises(StudyError, match="cannot be read") as caught:
            encoder(tmp_path / name)
        assert "state dict" in caught.value.problems[0].remedy
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"text", bytes(100)])
def test_a_file_that_holds_no_weights_cannot_be_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match="cannot be read") as caught:
        encoder(tmp_path / name)
    assert caught.value.problems[0].where == f"encoder net, weights {tmp_path / name}"


def test_a_missing_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        encoder(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    "content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {"state_dict": [1]}, 5, {0: torch.zeros(3)}], ids=str
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(StudyError, match="holds no state dict"):
        encoder(save(tmp_path / "weights.pth", content))


# Architecture and preprocessing


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(StudyError, match="timm cannot make this model") as caught:
        TorchEncoder({**spec(), "architecture": "resnet9000"}, SIZE, 1, 1)
    assert "architecture resnet9000" in caught.value.problems[0].where


def test_arguments_reach_timm_and_wrong_ones_are_named() -> None:
    assert encoder(arguments={"num_classes": 7}).identity.dim == 7
    with pytest.raises(StudyError, match="timm cannot make this model"):
        encoder(arguments={"no_such_argument": 1})


def test_a_model_that_gives_maps_instead_of_vectors_is_refused() -> None:
    with pytest.raises(StudyError, match="not one vector per tile") as caught:
        encoder(arguments={"global_pool": ""})
    assert "global_pool" in caught.value.problems[0].remedy


def test_a_dim_that_differs_from_the_entry_is_refused() -> None:
    with pytest.raises(StudyError, match=rf"length {DIM}, .*dim: 512"):
        build_encoder(spec(dim=512), SIZE, 0.5, seed=1)
    assert build_encoder(spec(dim=DIM), SIZE, 0.5, seed=1).identity.dim == DIM


def test_preprocessing_is_timms_unless_the_entry_says_otherwise(tiles: npt.NDArray[np.uint8]) -> None:
    model = timm.create_model(ARCHITECTURE)
    config = timm.data.resolve_model_data_config(model)
    plain = encoder()
    assert plain.identity.preprocessing["mean"] == pytest.approx(config["mean"])
    assert plain.identity.preprocessing["std"] == pytest.approx(config["std"])
    assert plain.identity.preprocessing["input_size"] == SIZE
    own = encoder(mean=[0.7, 0.6, 0.7], std=[0.1, 0.2, 0.1], input_size=96)
    assert own.identity.preprocessing["mean"] == pytest.approx([0.7, 0.6, 0.7])
    assert own.identity.preprocessing["input_size"] == 96
    assert own.encode(tiles).shape == (5, DIM)
    assert not np.allclose(own.encode(tiles), plain.encode(tiles))


def test_a_tile_is_resized_to_the_input_size_without_overshoot(tmp_path: Path, model: nn.Module) -> None:
    path = save(tmp_path / "weights.pth", model.state_dict())
    checked = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    checked[:, :, SIZE // 2 :] = 255
    small = checked[:, ::2, ::2]
    resized = TorchEncoder(spec(path, input_size=SIZE), SIZE // 2, 1, 1).encode(np.ascontiguousarray(small))
    direct = encoder(path).encode(checked)
    assert np.corrcoef(resized[0], direct[0])[0, 1] > 0.98


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_without_a_gpu_is_refused(precision: str) -> None:
    with pytest.raises(StudyError, match=f"{precision} needs a GPU") as caught:
        encoder(precision=precision)
    assert "fp32" in caught.value.problems[0].remedy


def test_a_row_does_not_depend_on_its_batch(tiles: npt.NDArray[np.uint8]) -> None:
    made = encoder()
    np.testing.assert_allclose(made.encode(tiles)[3], made.encode(tiles[3:4])[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(made.encode(tiles), made.encode(tiles))


def test_weights_that_the_hub_does_not_give_are_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StudyError, match="the weights are not in the local cache") as caught:
        encoder("hub")
    assert caught.value.problems[0].where == f"encoder net, architecture {ARCHITECTURE}"
    assert "give a file as `weights:`" in caught.value.problems[0].remedy


# Memory, compilation, tiles


def test_too_many_tiles_for_the_memory_are_a_memory_error_and_fewer_still_go(
    tiles: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = encoder()
    usual = made._features

    def greedy(batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 2:
            torch.empty(10**16)
        return usual(batch)

    monkeypatch.setattr(made, "_features", greedy)
    with pytest.raises(MemoryError, match="5 tiles do not fit"):
        made.encode(tiles)
    assert made.encode(tiles[:2]).shape == (2, DIM)

    def on_the_gpu(batch: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(made, "_features", on_the_gpu)
    with pytest.raises(MemoryError, match="CUDA out of memory"):
        made.encode(tiles)


def test_another_error_of_the_network_stays_what_it_is(
    tiles: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = encoder()

    def broken(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(made, "_features", broken)
    with pytest.raises(RuntimeError, match="something else"):
        made.encode(tiles)


def test_no_tiles_give_no_vectors(tiles: npt.NDArray[np.uint8]) -> None:
    assert encoder().encode(tiles[:0]).shape == (0, DIM)


def test_compilation_is_used_and_recorded_only_where_asked_for(
    tiles: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []

    def record(function: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", record)
    plain = encoder()
    assert compiled == []
    assert "compile" not in plain.identity.preprocessing
    fast = encoder(compile=True)
    assert len(compiled) == 1
    assert fast.identity.preprocessing["compile"] is True
    np.testing.assert_array_equal(fast.encode(tiles), plain.encode(tiles))


def test_a_network_that_cannot_be_compiled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    with pytest.raises(StudyError, match="no compiler") as caught:
        encoder(compile=True)
    assert "compile: false" in caught.value.problems[0].remedy


def test_an_input_size_that_the_network_cannot_take_is_named() -> None:
    with pytest.raises(StudyError, match="cannot encode a tile of 50 px") as caught:
        TorchEncoder({**spec(), "architecture": "test_vit", "input_size": 50}, SIZE, 1, 1)
    assert "input_size" in caught.value.problems[0].remedy


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_resize_rule_is_the_entrys(tmp_path: Path, model: nn.Module, interpolation: str) -> None:
    path = save(tmp_path / "weights.pth", model.state_dict())
    made = TorchEncoder(spec(path, input_size=SIZE, interpolation=interpolation), 2 * SIZE, 1, 1)
    large = np.random.default_rng(1).integers(0, 256, (2, 2 * SIZE, 2 * SIZE, 3), dtype=np.uint8)
    batch = torch.from_numpy(large).permute(0, 3, 1, 2).float() / 255
    small = nn.functional.interpolate(batch, (SIZE, SIZE), mode=interpolation, antialias=True).clamp(0, 1)
    data = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(data[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        wanted = model.forward_head(model.forward_features((small - mean) / std), pre_logits=True)
    np.testing.assert_allclose(made.encode(large), wanted.numpy(), rtol=1e-4, atol=1e-5)
    assert made.identity.preprocessing["resize"] == f"{interpolation}, antialiased"


def test_tiles_that_the_entry_does_not_name_are_refused_or_recorded() -> None:
    meant = {"tiles": [{"size": 224, "mpp": 0.5}]}
    with pytest.raises(StudyError, match=r"meant for tiles of 224 px at 0\.5 um/px") as caught:
        build_encoder(spec(**meant), SIZE, 0.5, seed=1)
    assert "allow_other_tiles" in caught.value.problems[0].remedy
    other = build_encoder(spec(**meant, allow_other_tiles=True), SIZE, 0.5, seed=1)
    assert other.identity.preprocessing["tiles"] == f"{SIZE} px at 0.5 um/px, though meant for 224 px at 0.5 um/px"
    fitting = build_encoder(spec(tiles=[{"size": SIZE, "mpp": 0.5}], allow_other_tiles=True), SIZE, 0.5, seed=1)
    assert "tiles" not in fitting.identity.preprocessing
