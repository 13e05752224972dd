"""Each aggregator against an independent calculation: torchmil, or its formula in a loop."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from slidestudy.models.mil import MilModel, build_model
from slidestudy.models.packing import MilOutput, PackedBags, pack
from tests.models.small_models import DIM, SMALL, close, make_bags, small_model

torch.set_num_threads(1)


def test_abmil_is_the_formula_of_ilse():
    model, packed = small_model("abmil", covariates=0), make_bags([6], covariates=0)
    w = {key: value.double() for key, value in model.state_dict().items()}
    x = ((packed.features.double() - w["standardiser.mean"]) / w["standardiser.deviation"]).clamp(-10, 10)
    hidden = torch.relu(x @ w["post_encoder.0.weight"].T + w["post_encoder.0.bias"])
    logits = torch.tanh(hidden @ w["attention.0.weight"].T + w["attention.0.bias"]) @ w["attention.2.weight"].T
    pooled = (torch.softmax(logits + w["attention.2.bias"], 0) * hidden).sum(0)
    close(model(packed).slide[0].double(), pooled @ w["classifier.weight"].T + w["classifier.bias"])


def hidden_of(model: MilModel, packed: PackedBags) -> torch.Tensor:
    hidden: torch.Tensor = model.post_encoder(model.standardiser(packed.features))
    return hidden


def test_mean_and_max_are_those_of_tile_logits():
    packed = make_bags([5, 3])
    for name, reduce in (("mean", torch.mean), ("max", torch.amax), ("linear", torch.mean)):
        output = small_model(name, 2)(packed)
        close(output.slide, torch.stack([reduce(t, 0) for t in output.tile_logits.split([5, 3])]))


def test_tiles_that_tie_for_the_maximum_share_the_attention():
    features = torch.tensor([[1.0] * DIM, [1.0] * DIM, [-1.0] * DIM])
    model = build_model({"aggregator": "max", "dim": DIM, "hidden": 3})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    assert model.eval()(pack([features])).attention.tolist() == [0.5, 0.5, 0.0]


def test_an_ectil_slide_is_the_weighted_mean_of_tile_fractions_for_every_output():
    model, packed = small_model("ectil", 3, covariates=0), make_bags([5, 1, 9], covariates=0)
    output = model(packed)
    fractions = torch.sigmoid(output.tile_logits.double()) * output.attention.double().unsqueeze(1)
    close(torch.sigmoid(output.slide.double()), torch.stack([f.sum(0) for f in fractions.split([5, 1, 9])]))


def test_an_ectil_logit_stays_finite_and_exact_far_from_one_half():
    model = build_model({"aggregator": "ectil", "dim": 1, "hidden": 2}).eval()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(-40.0)
    assert model(pack([torch.ones(3, 1)])).slide.item() == pytest.approx(-40, abs=1e-4)


def test_covariates_add_a_linear_term_to_the_logit_of_ectil():
    model, packed = small_model("ectil"), make_bags([5, 3])
    assert packed.covariates is not None
    plain = small_model("ectil", covariates=0)
    plain.load_state_dict(
        {**plain.state_dict(), **{k: v for k, v in model.state_dict().items() if "cov" not in k}}
        | {"classifier.weight": model.classifier.weight[:, : SMALL["hidden"]]}
    )
    term = model.covariate_standardiser(packed.covariates) @ model.classifier.weight[:, SMALL["hidden"] :].T
    bare = PackedBags(packed.features, packed.offsets)
    close(model(packed).slide, plain(bare).slide + term)


def test_clam_sb_is_torchmils():
    from torchmil.models import CLAM_SB

    model, packed = small_model("clam-sb", covariates=0), make_bags([6], covariates=0)
    theirs = CLAM_SB((SMALL["hidden"],), att_dim=SMALL["attention"], gated=True)
    ours = model.attention
    # torchmil's attention has no last intercept, which a softmax does not see.
    theirs.pool.fc1.module.load_state_dict(ours.attention_hidden[0].state_dict())
    theirs.pool.fc_gated.module.load_state_dict(ours.gate[0].state_dict())
    theirs.pool.fc2.load_state_dict({"weight": ours.attention.weight})
    theirs.classifier.module.load_state_dict(model.classifier.state_dict())
    expected, logits = theirs(hidden_of(model, packed).unsqueeze(0), return_att=True)
    output = model(packed)
    close(output.slide[:, 0], expected)
    close(output.attention_logits - ours.attention.bias, logits[0])


def test_clam_mb_classifies_each_class_by_its_own_attention():
    model, packed = small_model("clam-mb", 3, covariates=0), make_bags([6, 4], covariates=0)
    hidden = hidden_of(model, packed)
    weight, bias = model.classifier.weight, model.classifier.bias
    expected = []
    for bag in hidden.split([6, 4]):
        attention = torch.softmax(model.attention(bag), 0)
        expected.append(torch.stack([attention[:, c] @ bag @ weight[c] + bias[c] for c in range(3)]))
    output = model(packed)
    close(output.slide, torch.stack(expected))
    shown = output.slide.argmax(1)
    parts = zip(hidden.split([6, 4]), shown, output.attention.split([6, 4]), strict=True)
    for bag, chosen, attention in parts:
        close(attention, torch.softmax(model.attention(bag)[:, chosen], 0))


@pytest.mark.parametrize("name", ["clam-sb", "clam-mb"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_the_clustering_loss_of_clam_is_that_of_a_loop(name, exclusive):
    model = small_model(name, 3, exclusive=exclusive, dropout=0.0).train()
    sizes, labels = [9, 4, 1, 12, 5], [2, 0, 1, 2, -1]
    packed = make_bags(sizes)
    output = model(packed)
    hidden, attention = hidden_of(model, packed), model.attention(hidden_of(model, packed))
    total = torch.zeros(())
    for bag, logits, label in zip(hidden.split(sizes), attention.split(sizes), labels, strict=True):
        k = min(SMALL["sampled"], len(bag) // 2)
        if label < 0 or not k:
            continue
        for c in range(3):
            order = logits[:, c if name == "clam-mb" else 0].argsort(descending=True)
            if c == label:
                chosen, truth = torch.cat([order[:k], order[-k:]]), torch.tensor([1] * k + [0] * k)
            elif exclusive:
                chosen, truth = order[:k], torch.zeros(k, dtype=torch.long)
            else:
                continue
            total = total + functional.cross_entropy(model.tile_classifiers[c](bag[chosen]), truth)
    found = model.instance_loss(output, torch.tensor(labels))
    assert found is not None
    close(found, 3 / 7 * total / 4)


def test_clam_has_no_clustering_loss_without_classes_or_training():
    model, packed = small_model("clam-sb").train(), make_bags([4, 3])
    assert model.instance_loss(model(packed), torch.tensor([-1, -1])) is None
    assert model.eval().instance_loss(model(packed), torch.tensor([0, 1])) is None
    with pytest.raises(ValueError, match="class 2, the model has 2"):
        model.instance_loss(model(packed), torch.tensor([0, 2]))


def test_dsmil_is_torchmils():
    from torchmil.models import DSMIL

    model, packed = small_model("dsmil", covariates=0), make_bags([6], covariates=0)
    theirs = DSMIL((SMALL["hidden"],), att_dim=SMALL["attention"], nonlinear_v=True).eval()
    theirs.q_nn.load_state_dict(model.query.state_dict())
    theirs.v_nn.load_state_dict(model.value.state_dict())
    theirs.inst_classifier.load_state_dict(model.tile_classifier.state_dict())
    theirs.bag_classifier.load_state_dict(model.classifier.state_dict())
    hidden = hidden_of(model, packed).unsqueeze(0)
    bag, attention, tiles = theirs(hidden, return_att=True, return_inst_pred=True)
    output = model(packed)
    close(output.slide[:, 0], theirs.predict(hidden))
    close(output.attention, attention.flatten())
    assert output.objectives is not None
    (of_bag, _), (of_highest, _) = output.objectives
    close(of_bag[:, 0], bag)
    close(of_highest[:, 0], tiles.amax(1))


@pytest.mark.parametrize("distillation", ["afs", "max", "maxmin"])
def test_dtfd_is_its_two_tiers_in_a_loop(distillation):
    """Dealt in turn by first-tier attention, as it is outside training."""
    model = small_model("dtfd-mil", covariates=0, distillation=distillation)
    sizes = [10, 2, 5]
    packed = make_bags(sizes, covariates=0)
    output, start = model(packed), 0
    for i, bag in enumerate(hidden_of(model, packed).split(sizes)):
        order = model.first_attention(bag)[:, 0].argsort(descending=True)
        rows, pieces, pseudo = [], [], []
        for group in range(min(SMALL["groups"], len(bag))):
            members = order[group :: SMALL["groups"]]
            share = torch.softmax(model.first_attention(bag[members])[:, 0], 0)
            pseudo.append(model.first(share @ bag[members]))
            activation = bag[members] @ model.first.weight[0]
            if distillation == "afs":
                rows.append(share @ bag[members])
                pieces.append((members, share))
            else:
                ends = [activation.argmax(), activation.argmin()][: 1 + (distillation == "maxmin")]
                rows += [bag[members[end]] for end in ends]
                pieces += [(members[end : end + 1], torch.ones(1)) for end in ends]
        distilled = torch.stack(rows)
        weights = torch.softmax(model.attention(distilled)[:, 0], 0)
        close(output.slide[i], model.classifier(weights @ distilled))
        attention = torch.zeros(len(bag))
        for weight, (tiles, share) in zip(weights, pieces, strict=True):
            attention.index_add_(0, tiles, weight * share)
        close(output.attention[start : start + len(bag)], attention)
        assert output.objectives is not None
        _, (of_pseudo, slide) = output.objectives
        assert sorted(of_pseudo[slide == i, 0].tolist()) == pytest.approx(
            sorted(float(p.detach()) for p in pseudo), abs=1e-4
        )
        start += len(bag)


def test_dtfd_deals_at_random_while_training_and_by_the_seed():
    model, packed = small_model("dtfd-mil", dropout=0.0).train(), make_bags([30])

    def slide(seed: int) -> MilOutput:
        torch.manual_seed(seed)
        return model(packed).slide

    assert torch.equal(slide(1), slide(1))
    assert not torch.equal(slide(1), slide(2))


def test_the_transformer_is_torchmils_with_our_head():
    model, packed = small_model("transformer", 2, covariates=0), make_bags([6], covariates=0)
    vector = model.network(hidden_of(model, packed).unsqueeze(0))
    close(model(packed).slide, vector @ model.classifier.weight.T + model.classifier.bias)
