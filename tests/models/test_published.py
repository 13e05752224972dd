"""Published weights give what their formula gives in plain numpy, and refuse to be anything else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from slidestudy.errors import StudyError
from slidestudy.models.checkpoint import load_members
from slidestudy.models.packing import pack
from slidestudy.models.published import PUBLISHED, load_published, publish_as_fold
from slidestudy.models.tasks import task_of
from slidestudy.models.training import HISTORY
from slidestudy.tables import load_table

torch.set_num_threads(1)
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


MADE = {"ectil": ectil_state, "crc-prognosis": crc_state}
KINDS = pytest.mark.parametrize("kind", sorted(MADE))


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


def check_against_numpy(kind: str, path: Path) -> None:
    """Two slides with features of RetCCL's kind: some of them far from zero, where a scaling would cut."""
    model, _ = load_published(kind, path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    rng = np.random.default_rng(5)
    slides = [np.maximum(rng.normal(0.1, 0.5, (n, 2048)), 0).astype(np.float16) for n in (30, 7)]
    slides[0][3, :40] = 25.0
    packed = pack([torch.from_numpy(x) for x in slides])
    output = model(packed)
    for i, x in enumerate(slides):
        rows = packed.segment == i
        slide, logits, attention = by_hand(kind, state, x.astype(np.float64))
        found = float(output.slide[i, 0].double())
        assert (sigmoid(found) if kind == "ectil" else found) == pytest.approx(slide, abs=1e-5, rel=1e-4)
        np.testing.assert_allclose(output.tile_logits[rows, 0].numpy(), logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(output.attention_logits[rows].numpy(), attention, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(output.attention[rows].numpy(), softmax(attention), rtol=1e-3, atol=1e-7)


@KINDS
def test_the_forward_pass_is_the_published_formula(tmp_path, kind):
    torch.save(MADE[kind](), tmp_path / "weights.ckpt")
    check_against_numpy(kind, tmp_path / "weights.ckpt")


@pytest.mark.shared
def test_the_published_crc_model_gives_what_its_weights_give_in_numpy(shared):
    check_against_numpy("crc-prognosis", shared / "published" / "crc_prognosis_mil.pth")


@pytest.mark.shared
def test_the_published_crc_model_is_the_file_its_card_names(shared):
    path = shared / "published" / "crc_prognosis_mil.pth"
    _, card = load_published("crc-prognosis", path)
    assert card["thresholds"] == {"published": -0.135}
    assert card["published"]["licence"] == "MIT"
    assert card["published"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_under_a_state_dict_are_found(tmp_path):
    torch.save({"state_dict": ectil_state(), "epoch": 3}, tmp_path / "a.ckpt")
    model, _ = load_published("ectil", tmp_path / "a.ckpt")
    assert torch.equal(model.state_dict()["post_encoder.0.weight"], ectil_state()["net.post_encoder.2.weight"])


@KINDS
def test_every_weight_of_the_file_is_in_the_model(tmp_path, kind):
    state = MADE[kind]()
    torch.save(state, tmp_path / "a.ckpt")
    ours = load_published(kind, tmp_path / "a.ckpt")[0].state_dict()
    assert len(ours) == len(state) + len(["standardiser.mean", "standardiser.deviation"])
    for theirs, value in state.items():
        assert sum(v.shape == value.shape and bool(torch.equal(v, value)) for v in ours.values()) == 1, theirs


@KINDS
def test_wrong_keys_and_shapes_are_all_named(tmp_path, kind):
    state = MADE[kind]()
    keys = list(state)
    missing, misshapen, broken = keys[0], keys[2], keys[1]
    del state[missing]
    state[misshapen] = torch.zeros(3, 3)
    state[broken] = torch.full_like(state[broken], torch.nan)
    state["net.extra.bias"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.ckpt")
    with pytest.raises(StudyError) as caught:
        load_published(kind, tmp_path / "a.ckpt")
    message = str(caught.value)
    assert f"{missing} is missing" in message
    assert f"{misshapen} is (3, 3), not" in message
    assert f"{broken} has values that are not finite" in message
    assert "net.extra.bias is not of this model" in message


def test_one_model_is_not_taken_for_another(tmp_path):
    torch.save(crc_state(), tmp_path / "a.ckpt")
    with pytest.raises(StudyError, match="is no ectil model"):
        load_published("ectil", tmp_path / "a.ckpt")


@pytest.mark.parametrize("content", [None, b"", b"no weights", "list"])
def test_what_holds_no_weights_is_refused(tmp_path, content):
    path = tmp_path / "a.ckpt"
    if content == "list":
        torch.save([1, 2], path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError, match=r"a\.ckpt: (cannot be read as weights|holds no state dict)"):
        load_published("ectil", path)


def test_code_in_a_file_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"net": Harmful()}, tmp_path / "a.ckpt")
    with pytest.raises(StudyError, match="cannot be read as weights"):
        load_published("ectil", tmp_path / "a.ckpt")
    assert not (tmp_path / "ran").exists()


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(StudyError, match="ectil, crc-prognosis"):
        load_published("other", tmp_path / "a.ckpt")


@KINDS
def test_a_fold_of_published_weights_is_read_as_one_trained_here(tmp_path, kind):
    torch.save(MADE[kind](), tmp_path / "a.ckpt")
    for k in range(2):
        publish_as_fold(kind, tmp_path / "a.ckpt", "r1", tmp_path / f"fold-{k}", name="m", encoder="retccl", fold=k)
    folds = [load_members(tmp_path / f"fold-{k}") for k in range(2)]
    assert [len(members) for members in folds] == [1, 1]
    models, cards = zip(*(members[0] for members in folds), strict=True)
    packed = pack([torch.rand(5, 2048)])
    direct, _ = load_published(kind, tmp_path / "a.ckpt")
    assert torch.equal(models[0](packed).slide, direct(packed).slide)
    assert [card["fold"] for card in cards] == [0, 1]
    assert (cards[0]["name"], cards[0]["encoder"], cards[0]["recipe"]) == ("m", "retccl", "r1")
    assert cards[0]["published"]["file"] == "a.ckpt"
    assert cards[0]["target"] is None
    history = load_table(tmp_path / "fold-0" / "history.tsv")
    assert list(history.columns) == HISTORY
    assert len(history) == 0


@KINDS
def test_the_card_names_a_task_that_turns_outputs_into_predictions(tmp_path, kind):
    torch.save(MADE[kind](), tmp_path / "a.ckpt")
    publish_as_fold(kind, tmp_path / "a.ckpt", "r1", tmp_path / "fold")
    card = json.loads((tmp_path / "fold" / "model.json").read_text(encoding="utf-8"))
    predicted = task_of(card["task_card"]).predict(np.array([[0.0], [1.0]]))["prediction"]
    expected = [50, 100 * sigmoid(1.0)] if kind == "ectil" else [0, 1]
    assert predicted == pytest.approx(expected)


@KINDS
def test_every_kind_says_where_it_is_from(kind):
    assert {"title", "source", "licence", "tiles"} <= set(PUBLISHED[kind].card["published"])
