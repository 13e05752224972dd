"""Models that fuse a second modality: their formulas, the transport plan, and what they can and cannot learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.errors import StudyError
from slidestudy.models.aggregators.fusion import SelfNormalising
from slidestudy.models.aggregators.transport import transport_plan
from slidestudy.models.checkpoint import load_ensemble, save_fold
from slidestudy.models.cohort import fold_parts, predict_cohort, split_development
from slidestudy.models.mil import MilModel, build_model
from slidestudy.models.packing import PackedBags, pack
from slidestudy.models.targets import Regression
from slidestudy.models.training import train_members
from slidestudy.statistics import auroc
from slidestudy.tables import write_table
from tests.models.builders import RECIPE, write_cohort
from tests.models.small_models import COVARIATES, DIM, FUSING, GROUPS, MODALITY, close, make_bags, small_model

torch.set_num_threads(1)
ATTENDING = ["mcat", "motcat"]
CLINICAL = COVARIATES - MODALITY


def hidden_of(model: MilModel, packed: PackedBags) -> torch.Tensor:
    hidden: torch.Tensor = model.post_encoder(model.standardiser(packed.features))
    return hidden


def modality_of(model: MilModel, packed: PackedBags) -> torch.Tensor:
    return model.covariate_standardiser(packed.covariates)[:, CLINICAL:]


def test_concat_abmil_classifies_the_slide_vector_the_embedding_and_the_covariates_side_by_side():
    model, packed = small_model("concat-abmil", 2), make_bags([6])
    bag, modality = hidden_of(model, packed), modality_of(model, packed)
    slide = torch.softmax(model.attention(bag)[:, 0], 0) @ bag
    w = model.modality.state_dict()
    for layer in ("0", "3"):
        modality = torch.nn.functional.elu(modality @ w[f"{layer}.weight"].T + w[f"{layer}.bias"])
    clinical = model.covariate_standardiser(packed.covariates)[0, :CLINICAL]
    joined = torch.cat([slide, modality[0], clinical])
    close(model(packed).slide[0], joined @ model.classifier.weight.T + model.classifier.bias)


def queries_by_hand(model: MilModel, modality: torch.Tensor) -> torch.Tensor:
    return torch.stack([model.modality[g](modality[columns]) for g, columns in enumerate(GROUPS)])


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_mcats_co_attention_is_that_of_a_loop(sizes, seed):
    model, packed = small_model("mcat"), make_bags(sizes, seed)
    hidden, modality = hidden_of(model, packed), modality_of(model, packed)
    queries = torch.stack([queries_by_hand(model, row) for row in modality])
    found = model.coattend(hidden, queries, packed)
    start = 0
    for i, size in enumerate(sizes):
        bag = hidden[start : start + size]
        attention = torch.zeros(size)
        for g in range(len(GROUPS)):
            query, keys, values = model.query(queries[i, g]), model.key(bag), model.value(bag)
            weights = torch.softmax(keys @ query / hidden.shape[1] ** 0.5, 0)
            close(found.tokens[i, g], weights @ values)
            attention += weights / len(GROUPS)
        close(found.log_attention[start : start + size].exp(), attention)
        start += size


@pytest.mark.parametrize("name", ATTENDING)
def test_behind_the_co_attention_tokens_are_pooled_fused_and_classified(name):
    """The encoder layer by its formula (Vaswani et al. 2017, the norm behind each sum), head by head."""
    model, packed = small_model(name, 2), make_bags([5])
    queries = queries_by_hand(model, modality_of(model, packed)[0])
    tokens = model.coattend(hidden_of(model, packed), queries.unsqueeze(0), packed).tokens[0]
    sides = []
    for side, rows in (("tiles", tokens), ("modality", queries)):
        pool = model.pools[side]
        for layer in pool.encoder:
            rows = layer.norm1(rows + self_attention(layer.self_attn, rows))
            rows = layer.norm2(rows + layer.linear2(torch.relu(layer.linear1(rows))))
        sides.append(pool.output(torch.softmax(pool.attention(rows)[:, 0], 0) @ rows))
    clinical = model.covariate_standardiser(packed.covariates)[0, :CLINICAL]
    joined = torch.cat([model.fusion(torch.cat(sides)), clinical])
    close(model(packed).slide[0], joined @ model.classifier.weight.T + model.classifier.bias)


def self_attention(layer: torch.nn.MultiheadAttention, rows: torch.Tensor) -> torch.Tensor:
    query, key, value = (rows @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, 1)
    width = rows.shape[1] // layer.num_heads
    heads = []
    for q, k, v in zip(query.split(width, 1), key.split(width, 1), value.split(width, 1), strict=True):
        heads.append(torch.softmax(q @ k.T / width**0.5, 1) @ v)
    found: torch.Tensor = layer.out_proj(torch.cat(heads, 1))
    return found


def test_motcats_tokens_are_means_by_the_plan_and_attention_is_its_share():
    model, packed = small_model("motcat"), make_bags([7])
    bag, queries = hidden_of(model, packed), queries_by_hand(model, modality_of(model, packed)[0])
    cost = ((bag[:, None] - queries[None]) ** 2).sum(-1).double().detach().numpy()
    plan = transport_plan(cost, model.regularisation, model.marginal_relaxation)
    found = model.coattend(bag, queries.unsqueeze(0), packed)
    close(found.tokens[0], torch.tensor(plan / plan.sum(0)).float().T @ bag)
    close(found.log_attention.exp(), torch.tensor(plan.sum(1) / plan.sum()).float())


costs = st.integers(0, 2**31 - 1).map(np.random.default_rng)


@settings(max_examples=20, deadline=None)
@given(rng=costs, tiles=st.integers(1, 30), groups=st.integers(1, 5), relaxation=st.sampled_from([0.1, 0.5, 5.0]))
def test_the_plan_is_the_fixed_point_of_sinkhorn(rng, tiles, groups, relaxation):
    """By potentials in logarithms: the plan's marginals are a exp(-f / relaxation) and b exp(-g / relaxation)."""
    cost = rng.uniform(0, 9, (tiles, groups))
    plan = transport_plan(cost, 0.1, relaxation)
    kernel, share = -cost / cost.max() / 0.1 - np.log(tiles * groups), relaxation / (relaxation + 0.1)
    f, g = np.zeros((tiles, 1)), np.zeros((1, groups))
    for _ in range(3000):
        f = -share * (np.log(np.exp(kernel + g).sum(1, keepdims=True)) + np.log(tiles))
        g = -share * (np.log(np.exp(kernel + f).sum(0, keepdims=True)) + np.log(groups))
    np.testing.assert_allclose(plan, np.exp(kernel + f + g), rtol=1e-4)
    np.testing.assert_allclose(plan.sum(1), np.exp(-0.1 * f[:, 0] / relaxation) / tiles, rtol=1e-4)


def test_the_marginals_are_kept_to_where_they_weigh_much():
    cost = np.random.default_rng(0).uniform(size=(20, 4))
    plan = transport_plan(cost, 0.1, 1000.0)
    np.testing.assert_allclose(plan.sum(1), 1 / 20, rtol=1e-3)
    np.testing.assert_allclose(plan.sum(0), 1 / 4, rtol=1e-3)
    loose = transport_plan(cost, 0.1, 0.01)
    assert abs(loose.sum() - 1) > 0.1


def test_tiles_that_cost_nothing_share_the_plan():
    np.testing.assert_allclose(transport_plan(np.zeros((4, 2)), 0.1, 0.5), 1 / 8, rtol=1e-6)


@pytest.mark.parametrize("name", FUSING)
def test_a_patient_without_a_row_counts_as_the_training_mean(name):
    model, packed = small_model(name), make_bags([4, 3])
    blank, mean = packed.covariates.clone(), packed.covariates.clone()
    blank[0, CLINICAL:], mean[0, CLINICAL:] = torch.nan, model.covariate_standardiser.mean[CLINICAL:]
    found = [model(PackedBags(packed.features, packed.offsets, c)).slide for c in (blank, mean)]
    assert torch.equal(*found)
    assert bool(found[0].isfinite().all())


@pytest.mark.parametrize("name", FUSING)
def test_evaluation_repeats_itself_with_and_without_gradients(name):
    """Torch's fast path without gradients, which rounds differently, is not taken."""
    model, packed = small_model(name, dropout=0.5), make_bags([6, 3])
    first = model(packed)
    with torch.inference_mode():
        again = model(packed)
        tiles = [model.score_tiles(packed, again) for _ in range(2)]
    assert torch.equal(first.slide, again.slide)
    assert torch.equal(*tiles)


@pytest.mark.parametrize("name", ATTENDING)
def test_tiles_alone_are_scored_the_same_in_chunks(name, monkeypatch):
    model, packed = small_model(name, 2), make_bags([5, 4])
    whole = model.score_tiles(packed, model(packed))
    monkeypatch.setattr("slidestudy.models.aggregators.coattention.ALONE", 3)
    close(model.score_tiles(packed, model(packed)), whole)


def test_concat_abmil_cannot_say_that_tiles_count_by_the_modality():
    """Its output is a sum: what another modality changes is the same for all tiles."""
    model, packed = small_model("concat-abmil"), make_bags([4, 6])
    moved = packed.covariates + torch.tensor([0.0, 1.0, -2.0, 0.5])
    shared = torch.stack([packed.covariates[0]] * 2), torch.stack([moved[0]] * 2)
    before, after = (model(PackedBags(packed.features, packed.offsets, c)).slide for c in shared)
    close((after - before)[0], (after - before)[1])
    attending = small_model("mcat")
    before, after = (attending(PackedBags(packed.features, packed.offsets, c)).slide for c in shared)
    assert float(((after - before)[0] - (after - before)[1]).abs().detach()) > 1e-3


def test_the_self_normalising_network_keeps_mean_and_variance_near_zero_and_one():
    torch.manual_seed(0)
    network = SelfNormalising(200, 300, 0.25).eval()
    found = network(torch.randn(500, 200))
    assert abs(float(found.detach().mean())) < 0.2
    assert 0.3 < float(found.detach().std()) < 1.2


@pytest.mark.parametrize("name", FUSING)
def test_a_modality_that_is_lacking_or_too_large_is_refused(name):
    with pytest.raises(StudyError, match="it needs a second modality"):
        build_model({"aggregator": name, "dim": 4, "n_covariates": 2})
    with pytest.raises(StudyError, match="3 of 2 covariates cannot be the second modality"):
        build_model({"aggregator": name, "dim": 4, "n_covariates": 2, "n_modality": 3})


def test_a_model_that_takes_no_modality_refuses_one():
    with pytest.raises(StudyError, match="it takes no second modality"):
        build_model({"aggregator": "gated-abmil", "dim": 4, "n_covariates": 2, "n_modality": 2})


@pytest.mark.parametrize("groups", [[[0], [2]], [[0, 1, 2], []], [[0, 1, 2, 3]], []])
def test_groups_that_do_not_hold_the_columns_are_refused(groups):
    with pytest.raises(StudyError, match="do not hold the 3 columns"):
        build_model({"aggregator": "mcat", "dim": 4, "n_covariates": 3, "n_modality": 3, "groups": groups})


@pytest.mark.parametrize("options", [{"layers": 0}, {"regularisation": 1e-3}, {"marginal_relaxation": 0.0}])
def test_options_of_no_use_are_refused(options):
    with pytest.raises(StudyError, match="motcat cannot be made"):
        build_model({"aggregator": "motcat", "dim": 4, "n_covariates": 1, "n_modality": 1, **options})


def planted(label: str, count: int) -> tuple[PackedBags, PackedBags, np.ndarray]:
    """Training slides, slides held out, and the labels: of odd tiles, of the first column's sign, or of both."""
    rng, bags, columns, labels = np.random.default_rng(5), [], [], []
    for i in range(count):
        odd, high = i % 2, i // 2 % 2
        features = rng.normal(size=(12, DIM))
        features[:6, :2] += 3.0 * odd
        bags.append(torch.tensor(features[rng.permutation(12)], dtype=torch.float32))
        columns.append([2 * high - 1 + 0.2 * rng.normal(), *rng.normal(size=2)])
        labels.append({"tiles": odd, "modality": high, "interaction": odd ^ high}[label])
    modality, split = torch.tensor(np.array(columns)).float(), 2 * count // 3
    return pack(bags[:split], modality[:split]), pack(bags[split:], modality[split:]), np.array(labels)


def fit(name: str, label: str) -> float:
    """AUROC of held-out slides after a short training."""
    # Transport costs milliseconds a slide and step: fewer of them.
    train, held_out, labels = planted(label, 60 if name == "motcat" else 120)
    torch.manual_seed(1)
    options = {} if name == "concat-abmil" else {"layers": 1, "heads": 2, "groups": [[0], [1, 2]]}
    model = build_model(
        {"aggregator": name, "dim": DIM, "n_covariates": 3, "n_modality": 3, "hidden": 16, "dropout": 0.1, **options}
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01 if name == "concat-abmil" else 0.003, weight_decay=0.01)
    truth = torch.tensor(labels[: train.n_slides]).float()
    model.train()
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(train).slide[:, 0], truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    predicted = model.eval()(held_out).slide[:, 0].detach().double().numpy()
    return float(auroc(labels[train.n_slides :].astype(float), predicted, np.ones((1, len(predicted))))[0])


@pytest.mark.parametrize("label", ["tiles", "modality", "interaction"])
@pytest.mark.parametrize("name", FUSING)
def test_what_lies_in_tiles_in_the_modality_or_in_both_together_is_learnt(name, label):
    found = fit(name, label)
    if (name, label) == ("concat-abmil", "interaction"):
        assert found < 0.75
    else:
        assert found > 0.85


SETTINGS: dict[str, Any] = {
    "name": "m",
    "task": "regression",
    "target_range": [0, 100],
    "columns": ["target"],
    "covariates": ["age"],
    "seed": 3,
}
CARD = {"name": "m", "recipe": "r1", "task_card": Regression(("target",), (0, 100)).card(), "covariates": ["age"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Labels, stores, splits, and a modality of two columns, one of them the patient's mean target with noise."""
    folder = tmp_path_factory.mktemp("study")
    labels, stores = write_cohort(folder, slides=1, patients=12)
    labels["age"] = np.arange(len(labels), dtype=float)
    splits = split_development(labels, stores, {"task": "regression", "folds": 3, "group_by": "patient", "seed": 5})
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": labels["patient_id"], "other": rng.normal(size=12), "told": labels["target"]})
    table["text"] = "x"
    write_table(folder / "expression.tsv", table.iloc[1:])
    return labels, stores, splits, folder / "expression.tsv"


def run(study, folder: Path, name: str, **training: Any) -> tuple[pd.DataFrame, bytes]:
    """Trains and predicts fold 0: the predictions, and the bytes of the weights and the card."""
    labels, stores, splits, table = study
    recipe = {**RECIPE, "epochs": 8, "options": {} if name == "concat-abmil" else {"layers": 1, "heads": 2}, **training}
    groups = {} if name == "concat-abmil" else {"a": ["other"], "b": ["t*", "other"]}
    modality = {"table": str(table), "columns": ["told", "other"], "groups": groups}
    own = {**SETTINGS, "aggregator": name, "training": recipe, "modality": modality}
    parts, task = fold_parts(splits, labels, stores, 0, own)
    fold = folder / "fold-0"
    card = {**CARD, "modality": parts["train"].modality.card(), "fold": 0}
    save_fold(fold, train_members(parts, task, own, 0, fold), card)
    written = (fold / "model.safetensors").read_bytes() + (fold / "model.json").read_bytes()
    only = splits[splits["fold"] == 0]
    found = predict_cohort(load_ensemble([str(fold)]), only, labels, stores, folder / "tiles", modality=table)
    return found, written


@pytest.mark.parametrize("name", FUSING)
def test_a_fold_with_a_modality_is_trained_saved_and_predicted_twice_the_same(study, tmp_path, name):
    (first, weights), (second, again) = run(study, tmp_path / "a", name), run(study, tmp_path / "b", name)
    assert weights == again
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert len(first) == 4
    assert first["prediction"].notna().all()
    _, architecture = load_ensemble([str(tmp_path / "a" / "fold-0")])[0][0]
    assert architecture["modality"]["columns"] == ["other", "told"]
    assert architecture["architecture"]["n_modality"] == 2
    assert architecture["architecture"].get("groups") == (None if name == "concat-abmil" else [[0], [0, 1]])


def test_the_parts_have_the_modality_behind_the_covariates(study):
    labels, stores, splits, table = study
    spec = {"table": str(table), "columns": ["other"], "groups": {}}
    parts, _ = fold_parts(splits, labels, stores, 1, {**SETTINGS, "modality": spec})
    written = pd.read_csv(table, sep="\t").set_index("patient_id")["other"]
    for part in parts.values():
        rows = labels.set_index("slide_id").loc[list(part.source.slide_ids)]
        expected = np.stack([rows["age"], rows["patient_id"].map(written)], 1).astype(np.float32)
        np.testing.assert_array_equal(part.covariates.numpy(), expected)


def test_a_column_that_is_missing_when_predicting_is_refused(study, tmp_path):
    labels, stores, splits, table = study
    run(study, tmp_path, "concat-abmil", epochs=1)
    folds = load_ensemble([str(tmp_path / "fold-0")])
    write_table(tmp_path / "less.tsv", pd.read_csv(table, sep="\t").drop(columns="told"))
    with pytest.raises(StudyError, match="the column 'told' is missing, which the model was trained on"):
        predict_cohort(folds, splits, labels, stores, tmp_path, modality=tmp_path / "less.tsv")
    with pytest.raises(StudyError, match="model m needs a second modality"):
        predict_cohort(folds, splits, labels, stores, tmp_path)


def test_a_table_of_other_patients_is_refused(study, tmp_path):
    labels, stores, splits, table = study
    other = pd.read_csv(table, sep="\t").assign(patient_id=[f"x{i}" for i in range(11)])
    write_table(tmp_path / "other.tsv", other)
    spec = {"table": str(tmp_path / "other.tsv"), "columns": ["told"], "groups": {}}
    with pytest.raises(StudyError, match="no training patient has a row"):
        fold_parts(splits, labels, stores, 0, {**SETTINGS, "modality": spec})


def test_groups_are_no_option_of_the_user(study, tmp_path):
    with pytest.raises(StudyError, match="mcat has no option groups"):
        run(study, tmp_path, "mcat", options={"groups": [[0]], "heads": 2})
