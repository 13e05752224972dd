"""Encoders, comparisons and summaries that fit nothing are named, and no label is seen by an encoder and tested on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.drafts import Draft

OWN: dict[str, Any] = {"backend": "timm", "architecture": "resnet18", "weights": "study"}
COMPARISON = {"target": "tils", "task": "regression", "folds": 3}


def with_reserved(draft: Draft, **pretraining: Any) -> Draft:
    """The study with a third cohort that only trains an encoder."""
    draft.config["cohorts"]["spare"] = {"role": "pretraining"}
    (draft.folder / "C1.svs").touch()
    draft.slides.append("C1\tC1\tspare\tC1.svs\t")
    draft.patients.append("C1\tspare\tz\t30\t1\t")
    draft.config["encoders"]["own"] = {**OWN, "pretraining": {"method": "simclr", **pretraining}}
    return draft


def test_a_cohort_for_pretraining_takes_no_part_in_anything_else(draft: Draft) -> None:
    study = with_reserved(draft, method="fine-tune", target="mucinous").load()
    assert study.cohorts("pretraining") == ["spare"]
    assert "C1" not in set(study.labels("til")["slide_id"])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"backend": "transformers"}, ["a transformers encoder needs an architecture", "to say its weights"]),
        ({**OWN}, ["only one half of being trained by this study"]),
        ({**OWN, "weights": "none", "pretraining": {"method": "dino"}}, ["only one half"]),
        ({**OWN, "backend": "open_clip", "pretraining": {"method": "dino"}}, ["cannot be trained here"]),
        ({**OWN, "pretraining": {"method": "dino", "cohorts": ["west"]}}, ["unknown cohort 'west'"]),
        ({**OWN, "pretraining": {"method": "dino", "cohorts": ["south"]}}, ["'south' is external", "role pretraining"]),
        ({**OWN, "pretraining": {"method": "fine-tune", "target": "tils"}}, ["no cohort to train on"]),
        (
            {**OWN, "pretraining": {"method": "fine-tune", "target": "mucinous", "cohorts": ["north"]}},
            ["the labels of 'north' would be seen by the encoder, and then be tested on"],
        ),
        ({**OWN, "pretraining": {"method": "dino", "start": "w.pth"}}, ["w.pth does not exist"]),
        ({**OWN, "pretraining": {"method": "dino", "check_label": "stage"}}, ["no table has a column 'stage'"]),
        ({"backend": "imported"}, ["imported from nowhere", "features.import.mine"]),
        (
            {"backend": "timm", "architecture": "resnet18", "weights": "none", "tiles": [{"size": 224, "mpp": 0.5}]},
            ["224 px at 0.5 um/px", "allow_other_tiles: true"],
        ),
    ],
)
def test_an_encoder_that_cannot_be_used_is_named_with_its_remedy(
    draft: Draft, entry: dict[str, Any], said: list[str]
) -> None:
    draft.config["encoders"]["mine"] = entry
    text = draft.message()
    assert "key encoders.mine" in text
    assert all(words in text for words in said), text


def test_other_tiles_can_be_allowed_for_an_encoder(draft: Draft) -> None:
    entry = {"backend": "timm", "architecture": "resnet18", "weights": "none", "tiles": [{"size": 224, "mpp": 0.5}]}
    draft.config["encoders"]["mine"] = {**entry, "allow_other_tiles": True}
    assert draft.load().config["encoders"]["mine"]["allow_other_tiles"]


def test_fine_tuning_needs_a_target(draft: Draft) -> None:
    assert "fine-tune needs a target" in with_reserved(draft, method="fine-tune").message()


def test_a_label_of_fine_tuning_is_checked_like_any_other(draft: Draft) -> None:
    text = with_reserved(draft, method="fine-tune", target="tils").message()
    assert "'tils' is '30', which is none of 0, 1" in text


def test_a_cohort_for_pretraining_that_trains_nothing_is_named(draft: Draft) -> None:
    with_reserved(draft)
    del draft.config["encoders"]["own"]
    assert "key cohorts.spare: no encoder is trained on it" in draft.message()


@pytest.mark.parametrize(
    ("section", "value", "said"),
    [
        ("summaries", {"encoders": ["nobody"]}, "key summaries.encoders: unknown encoder 'nobody'"),
        ("summaries", {"encoders": ["stain-texture"], "biology": "grade"}, "no table has a column 'grade'"),
        ("features", {"import": {"nobody": {"files": "x.h5"}}}, "key features.import: unknown encoder 'nobody'"),
        (
            "slide_encoders",
            {"s": {"backend": "mean-std", "encoder": "nobody"}},
            "slide_encoders.s.encoder: unknown encoder 'nobody'",
        ),
        (
            "slide_encoders",
            {"s": {"backend": "titan", "encoder": "stain-texture", "weights": "t"}},
            "slide_encoders.s.weights",
        ),
        ("comparisons", {"c": {**COMPARISON, "encoders": ["nobody"]}}, "unknown encoder or slide encoder 'nobody'"),
        ("comparisons", {"c": {**COMPARISON, "target": "grade"}}, "no table has a column 'grade'"),
        ("comparisons", {"c": {**COMPARISON, "folds": 9}}, "9 folds need as many patients"),
        ("comparisons", {"c": {**COMPARISON, "target_range": [1, 0]}}, "[1, 0] is not a range"),
        ("comparisons", {"c": {**COMPARISON, "biology": "grade"}}, "key comparisons.c.biology"),
    ],
)
def test_a_section_that_names_nothing_is_told(draft: Draft, section: str, value: Any, said: str) -> None:
    draft.config[section] = value
    text = draft.message()
    assert said in text, text


def test_slide_encoders_and_means_can_be_compared(draft: Draft) -> None:
    draft.config["slide_encoders"] = {"spread": {"backend": "mean-std", "encoder": "stain-texture"}}
    names = ["stain-texture", "spread", "stain-texture.mean"]
    draft.config["comparisons"] = {"c": {**COMPARISON, "encoders": names}}
    assert draft.load().config["comparisons"]["c"]["target_range"] == [0, 100]


def test_a_template_and_a_folder_of_weights_lie_beside_the_configuration(draft: Draft) -> None:
    draft.config["weights_dir"] = "weights"
    draft.config["encoders"]["stain-texture"] = {"normaliser": {"method": "macenko", "template": "mine.png"}}
    config = draft.load().config
    assert config["weights_dir"] == str(draft.folder / "weights")
    assert config["encoders"]["stain-texture"]["normaliser"]["template"] == str(draft.folder / "mine.png")
    draft.config["encoders"]["stain-texture"] = {"normaliser": {"method": "macenko"}}
    assert draft.load().config["encoders"]["stain-texture"]["normaliser"]["template"] == "generated-he"
