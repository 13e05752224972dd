"""Published weights give what their formula gives in plain numpy, and refuse to be anything else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from slidestudy.errors import StudyError
from slidestudy.features.store import read_features, write_features
from slidestudy.models.checkpoint import load_ensemble, load_members
from slidestudy.models.cohort import predict_cohort
from slidestudy.models.packing import pack
from slidestudy.models.published import adopt_weights, load_published, publish_as_fold
from slidestudy.models.splits import no_splits
from slidestudy.models.tasks import task_of
from slidestudy.models.training import HISTORY
from slidestudy.published_kinds import PUBLISHED
from slidestudy.tables import load_table
from tests.features.stores import attributes, make_store
from tests.models.published_files import by_hand, crc_state, ectil_state, sigmoid, softmax

torch.set_num_threads(1)


ECTIL_TILES = {"size": 512, "mpp": 0.5}
SETTINGS = {"name": "m", "encoder": "retccl", "target": ["months", "died"], "columns": ["time", "event"]}
MADE = {"ectil": ectil_state, "crc-prognosis": crc_state}
KINDS = pytest.mark.parametrize("kind", sorted(MADE))


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
        publish_as_fold(kind, tmp_path / "a.ckpt", "r1", tmp_path / f"fold-{k}", settings=SETTINGS, fold=k)
    folds = [load_members(tmp_path / f"fold-{k}") for k in range(2)]
    assert [len(members) for members in folds] == [1, 1]
    models, cards = zip(*(members[0] for members in folds), strict=True)
    packed = pack([torch.rand(5, 2048)])
    direct, _ = load_published(kind, tmp_path / "a.ckpt")
    assert torch.equal(models[0](packed).slide, direct(packed).slide)
    assert [card["fold"] for card in cards] == [0, 1]
    assert (cards[0]["name"], cards[0]["encoder"], cards[0]["recipe"]) == ("m", "retccl", "r1")
    assert cards[0]["published"]["file"] == "a.ckpt"
    assert cards[0]["target"] == ["months", "died"]
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


def test_tiles_fit_up_to_the_rounding_of_a_published_resolution():
    crc = PUBLISHED["crc-prognosis"]
    assert crc.fits(224, 1.14)
    assert crc.fits(224, 256 / 224)
    assert not crc.fits(224, 1.1)
    assert not crc.fits(256, 1.14)
    assert not PUBLISHED["ectil"].fits(224, 1.14)


def features_at(path: Path, dim: int = 2048, **tiles: float) -> Path:
    """A store of random features of some length, of tiles of `size` px at `mpp` um/px, 6 of them."""
    known = attributes(path.stem, **{"size": 224, "mpp": 1.14, **tiles})
    identity = {**known["encoder"], "name": "retccl", "dim": dim}
    rng = np.random.default_rng(len(path.stem))
    features = np.maximum(rng.normal(0.1, 0.5, (6, dim)), 0).astype(np.float32)
    kept = {"encoder": identity, "n_tiles": 6, "n_unreadable": 0}
    coords, fraction = np.zeros((6, 2), np.int32), np.ones(6, np.float32)
    write_features(path, features, coords, fraction, np.ones(6, bool), {**known, **kept})
    return path


def settings_of(kind: str, **published: bool) -> dict[str, object]:
    said = {"kind": kind, "files": [], "allow_other_tiles": False, **published}
    return {"name": "m", "encoder": "retccl", "target": None, "columns": ["time", "event"], "published": said}


@pytest.fixture
def crc_weights(tmp_path: Path) -> Path:
    torch.save(crc_state(), tmp_path / "a.pth")
    return tmp_path / "a.pth"


def test_adopted_weights_have_the_recipe_of_the_features_and_say_what_they_were_made_for(tmp_path, crc_weights):
    stores = [features_at(tmp_path / f"{name}.zarr") for name in ("s1", "s22")]
    adopt_weights(settings_of("crc-prognosis"), crc_weights, stores, tmp_path / "fold-0", 0)
    card = json.loads((tmp_path / "fold-0" / "model.json").read_text(encoding="utf-8"))
    assert card["recipe"] == attributes("s1", size=224, mpp=1.14)["recipe"]
    assert (card["task"], card["thresholds"], card["covariates"]) == ("survival-cox", {"published": -0.135}, [])
    assert card["task_card"]["columns"] == ["time", "event"]
    assert card["published"]["trained_on"] == [{"size": 224, "mpp": 1.14}]
    assert (card["published"]["applied_to"], card["published"]["other_tiles"]) == ({"size": 224, "mpp": 1.14}, False)


def test_features_of_another_length_are_refused_with_both_numbers(tmp_path, crc_weights):
    store = features_at(tmp_path / "s1.zarr", dim=512)
    with pytest.raises(StudyError, match="the encoder retccl gives 512 features, the crc-prognosis weights take 2048"):
        adopt_weights(settings_of("crc-prognosis"), crc_weights, [store], tmp_path / "fold-0", 0)
    assert not (tmp_path / "fold-0").exists()


def test_other_tiles_are_refused_unless_allowed_and_then_recorded(tmp_path, crc_weights):
    store = features_at(tmp_path / "s1.zarr", size=512, mpp=0.5)
    with pytest.raises(StudyError, match=r"224 px at 1\.14 um/px, these are 512 px at 0\.5 um/px"):
        adopt_weights(settings_of("crc-prognosis"), crc_weights, [store], tmp_path / "fold-0", 0)
    allowed = settings_of("crc-prognosis", allow_other_tiles=True)
    adopt_weights(allowed, crc_weights, [store], tmp_path / "fold-0", 0)
    card = json.loads((tmp_path / "fold-0" / "model.json").read_text(encoding="utf-8"))
    assert (card["published"]["applied_to"], card["published"]["other_tiles"]) == ({"size": 512, "mpp": 0.5}, True)


def test_features_of_two_recipes_or_of_no_slide_are_refused(tmp_path, crc_weights):
    stores = [features_at(tmp_path / "s1.zarr"), features_at(tmp_path / "s2.zarr", mpp=1.141)]
    with pytest.raises(StudyError, match="do not share one recipe"):
        adopt_weights(settings_of("crc-prognosis"), crc_weights, stores, tmp_path / "fold-0", 0)
    excluded = make_store(tmp_path / "s3.zarr", status="excluded", reason={"code": "no_tissue", "message": "none"})
    with pytest.raises(StudyError, match="no slide has usable features of the encoder retccl"):
        adopt_weights(settings_of("crc-prognosis"), crc_weights, [excluded], tmp_path / "fold-0", 0)


def check_a_cohort_is_predicted(kind: str, files: list[Path], folder: Path) -> None:
    """Every slide by the mean of all files, computed anew in numpy; the labels are blank, and no slide is left out."""
    names = ["s1", "s22"]
    stores = [features_at(folder / f"{name}.zarr", **(ECTIL_TILES if kind == "ectil" else {})) for name in names]
    settings = settings_of(kind) | ({"columns": ["target"]} if kind == "ectil" else {})
    for fold, path in enumerate(files):
        adopt_weights(settings, path, stores, folder / f"fold-{fold}", fold)
    labels = pd.DataFrame({"slide_id": names, "patient_id": ["p1", "p2"], "cohort": "north", "center": "c"})
    labels = labels.assign(**dict.fromkeys(settings["columns"], np.nan))
    folds = load_ensemble([str(folder / f"fold-{fold}") for fold in range(len(files))])
    alike = pd.DataFrame({"patient_id_a": ["p1"], "patient_id_b": ["p2"]})
    table = predict_cohort(folds, no_splits(), labels, [str(store) for store in stores], folder / "tiles", alike)
    assert table["slide_id"].tolist() == names
    assert set(table["fold"]) == {"ensemble"}
    states = [torch.load(path, map_location="cpu", weights_only=True) for path in files]
    for store, found in zip(stores, table.to_dict("records"), strict=True):
        x = read_features(store).features.astype(np.float64)
        expected = [by_hand(kind, state, x)[0] * (100 if kind == "ectil" else 1) for state in states]
        assert found["prediction"] == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-4)
        assert all(np.isnan(found[column]) for column in settings["columns"])


@KINDS
def test_every_slide_of_a_cohort_is_predicted_by_all_files(tmp_path, kind):
    files = [tmp_path / f"{k}.ckpt" for k in range(2)]
    for k, path in enumerate(files):
        torch.save(MADE[kind](seed=k), path)
    check_a_cohort_is_predicted(kind, files, tmp_path)


@pytest.mark.shared
def test_the_published_crc_model_predicts_a_cohort_as_its_weights_do_in_numpy(tmp_path, shared):
    path = shared / "published" / "crc_prognosis_mil.pth"
    if not path.is_file():
        pytest.skip(f"the published weights are not there ({path})")
    check_a_cohort_is_predicted("crc-prognosis", [path], tmp_path)
