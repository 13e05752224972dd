"""Applying models of any number of outputs to a slide, and the tile scores that are kept of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slidestudy.models.bags import Bag
from slidestudy.models.mil import AGGREGATORS, MilModel, build_model
from slidestudy.models.packing import pack
from slidestudy.models.prediction import predict_slide
from slidestudy.models.tile_scores import COLUMNS, FURTHER, read_tile_scores, write_tile_scores

torch.set_num_threads(1)
DIM, TILES = 5, 9


def make_bag(seed: int = 0) -> Bag:
    features = torch.randn(TILES, DIM, generator=torch.Generator().manual_seed(seed)).half()
    coords = np.stack([128 * np.arange(TILES), np.zeros(TILES)], 1).astype(np.int32)
    return Bag("s", features, coords, np.full(TILES, 0.5, np.float32))


def make_model(name: str, outputs: int = 1, covariates: int = 0, seed: int = 0) -> MilModel:
    torch.manual_seed(seed)
    small = {} if name == "linear" else {"hidden": 8}
    fused = {"n_modality": covariates} if AGGREGATORS[name].takes_modality else {}
    return build_model(
        {"aggregator": name, "dim": DIM, "n_outputs": outputs, "n_covariates": covariates, **small, **fused}
    ).eval()


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_what_is_predicted_goes_to_disk_and_comes_back(tmp_path, name, outputs):
    bag = make_bag()
    covariates = np.ones(2, np.float32) if AGGREGATORS[name].takes_modality else None
    model = make_model(name, outputs, 0 if covariates is None else 2)
    found = predict_slide([model], bag, main=outputs - 1, covariates=covariates)
    arrays = {"coords": bag.coords, "tissue_fraction": bag.tissue_fraction, **found.arrays()}
    write_tile_scores(tmp_path / "s.zarr", arrays, {"slide_id": "s"})
    read, attributes = read_tile_scores(tmp_path / "s.zarr")
    assert attributes["slide_id"] == "s"
    assert set(read) == ({*COLUMNS, *FURTHER} if outputs > 1 else set(COLUMNS))
    for key, values in arrays.items():
        np.testing.assert_array_equal(read[key], values)
    assert np.isfinite(read["logit"]).all()
    if outputs > 1:
        np.testing.assert_array_equal(read["logits"][:, outputs - 1], read["logit"])
        np.testing.assert_array_equal(read["scores"][:, outputs - 1], read["score"])


def test_an_ensemble_is_the_mean_of_scores_and_keeps_each_models_raw_outputs():
    models = [make_model("gated-abmil", seed=k) for k in range(3)]
    single = [predict_slide([model], make_bag()) for model in models]
    found = predict_slide(models, make_bag())
    assert found.output == pytest.approx(np.mean([one.output for one in single]))
    assert found.raw == pytest.approx(np.concatenate([one.raw for one in single]))
    assert found.tile_score == pytest.approx(np.mean([one.tile_score for one in single], 0))
    assert found.tile_logit == pytest.approx(np.mean([one.tile_logit for one in single], 0), abs=1e-6)


def test_the_link_turns_raw_outputs_into_scores():
    model, bag = make_model("gated-abmil", 3), make_bag()
    raw = model(pack([bag.features])).slide[0].detach().double()
    expected = {"identity": raw, "sigmoid": torch.sigmoid(raw), "softmax": torch.softmax(raw, 0)}
    for link, values in expected.items():
        found = predict_slide([model], bag, link=link, main=2)
        assert found.outputs == pytest.approx(values.numpy())
        assert found.output == pytest.approx(float(values[2]))
    assert predict_slide([model], bag, link="softmax").tile_scores.sum(1) == pytest.approx(1)


def test_covariates_reach_the_model():
    model, bag = make_model("ectil", covariates=2), make_bag()
    outputs = [predict_slide([model], bag, covariates=np.array(c, np.float32)).output for c in ([0, 0], [2, -1])]
    assert abs(outputs[0] - outputs[1]) > 1e-4


@pytest.mark.parametrize("name", ["transformer", "transmil"])
def test_models_with_context_have_their_tiles_scored_alone(name):
    model, bag = make_model(name), make_bag()
    alone = [
        predict_slide([model], Bag("s", tile, bag.coords, bag.tissue_fraction)).raw for tile in bag.features.split(1)
    ]
    assert predict_slide([model], bag).tile_logit == pytest.approx(np.concatenate(alone)[:, 0], abs=1e-5)


def test_further_arrays_come_together_or_not_at_all(tmp_path):
    arrays = {name: np.zeros((2, 2)) for name in (*COLUMNS, "scores")}
    with pytest.raises(ValueError, match="may have"):
        write_tile_scores(tmp_path / "s.zarr", arrays, {})
