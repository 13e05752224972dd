"""A small open_clip model, made here, compares patches with statements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from scipy.special import softmax
from tests.explanations.readers.vlm_readers import said

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import AnswerStatus, Conclusion
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Patch, Question
from slidestudy.explanations.readers.clip import ClipReader, ClipSettings, classes_of

MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    # The vocabulary of open_clip's own tokenizer.
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
BOTH = said(higher=("many dark nuclei", "crowded cells"), lower=("fat",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clip") / "tiny"
    made.mkdir()
    torch.manual_seed(1)
    model = open_clip.CLIP(**MODEL)
    described = {"model_cfg": MODEL, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (made / "open_clip_config.json").write_text(json.dumps(described))
    save_file(model.state_dict(), made / "open_clip_model.safetensors")
    return made


@pytest.fixture(scope="module")
def reader(folder: Path) -> ClipReader:
    return ClipReader(ClipSettings(f"local-dir:{folder}", "hub", "cpu"))


def patches(count: int) -> list[Patch]:
    """Patches from dark to bright, with noise."""
    rng = np.random.default_rng(0)
    return [
        Patch(f"p{i}", np.clip(rng.normal(20 + 200 * i / count, 20, (48, 48, 3)), 0, 255).astype(np.uint8), 0.5)
        for i in range(count)
    ]


def asked(count: int, repeats: int = 1) -> list[Question]:
    return [Question(patch.patch_id, "", patch, repeat) for repeat in range(repeats) for patch in patches(count)]


def cosines(folder: Path, images: list[np.ndarray], texts: tuple[str, ...]) -> tuple[np.ndarray, float]:
    """Cosines of images and texts by open_clip itself, `(images, texts)`, and the scale of its logits."""
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        one = model.encode_image(torch.stack([transform(Image.fromarray(i)) for i in images]), normalize=True)
        other = model.encode_text(tokenizer(list(texts)), normalize=True)
        return (one @ other.T).numpy(), float(model.logit_scale.exp())


def test_the_answers_are_those_of_the_models_own_cosines(reader: ClipReader, folder: Path) -> None:
    answers = reader.answer_all(asked(12), BOTH)
    found, scale = cosines(folder, [patch.rgb for patch in patches(12)], BOTH.statements)
    sides = np.stack([found[:, :2].mean(1), found[:, 2]], axis=1)
    probabilities = [answer.probability for answer in answers]
    np.testing.assert_allclose(probabilities, softmax(scale * sides, axis=1)[:, 0], atol=2e-4)
    order = np.argsort(sides[:, 0] - sides[:, 1])
    ranks = [answers[i].conclusion.ordinal for i in order if answers[i].conclusion]
    assert ranks == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert reader.name == "clip:tiny"


def test_the_inverse_turns_every_answer_round(reader: ClipReader) -> None:
    inverse = said(higher=BOTH.lower, lower=BOTH.higher)
    for one, other in zip(reader.answer_all(asked(8), BOTH), reader.answer_all(asked(8), inverse), strict=True):
        assert one.conclusion is not None
        assert other.conclusion is not None
        assert one.conclusion.ordinal + other.conclusion.ordinal == 3
        assert one.probability is not None
        assert other.probability == pytest.approx(1 - one.probability, abs=1e-6)


def test_one_side_gives_classes_and_no_probability(reader: ClipReader) -> None:
    up = reader.answer_all(asked(8), said(higher=("fat",)))
    down = reader.answer_all(asked(8), said(lower=("fat",)))
    assert [answer.probability for answer in up + down] == [None] * 16
    assert all(a.conclusion.ordinal + b.conclusion.ordinal == 3 for a, b in zip(up, down, strict=True))


def test_repeats_are_the_same_answer(reader: ClipReader) -> None:
    answers = reader.answer_all(asked(6, repeats=2), BOTH)
    assert [answer.repeat for answer in answers] == [0] * 6 + [1] * 6
    assert [answer.conclusion for answer in answers[:6]] == [answer.conclusion for answer in answers[6:]]


@pytest.mark.parametrize(
    "explanation", [said("Lymphocytes raise the score."), said(name="control.empty"), said(name=IMAGE_ONLY)]
)
def test_without_statements_it_abstains(reader: ClipReader, explanation: Any) -> None:
    assert {answer.status for answer in reader.answer_all(asked(4), explanation)} == {AnswerStatus.ABSTAINED}


def test_patches_that_fit_alike_get_no_answer(reader: ClipReader) -> None:
    same = [Question(f"p{i}", "", Patch(f"p{i}", patches(1)[0].rgb, 0.5)) for i in range(40)]
    assert {answer.status for answer in reader.answer_all(same, BOTH)} == {AnswerStatus.ABSTAINED}
    assert reader.answer_all([], BOTH) == []


def test_a_question_needs_its_patch(reader: ClipReader) -> None:
    assert reader.needs_images
    with pytest.raises(ValueError, match="needs the patch"):
        reader.answer_all([Question("p", "text", None)], BOTH)


def test_weights_that_are_not_there_are_a_user_error(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StudyError, match="open_clip cannot make this model"):
        ClipReader(ClipSettings("ViT-of-nobody", "none")).answer_all(asked(2), BOTH)
    wrong = tmp_path / "wrong.safetensors"
    save_file({"a": torch.zeros(1)}, wrong)
    with pytest.raises(StudyError, match="does not fit"):
        ClipReader(ClipSettings(f"local-dir:{folder}", str(wrong))).answer_all(asked(2), BOTH)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60))
def test_classes_follow_the_contrast_and_no_class_holds_more_than_its_share(values: list[float]) -> None:
    contrast = np.array(values)
    ordinals = np.array([conclusion.ordinal for conclusion in classes_of(contrast)])
    for i, j in zip(*np.triu_indices(len(values), 1), strict=True):
        if contrast[i] < contrast[j]:
            assert ordinals[i] <= ordinals[j]
        if contrast[i] == contrast[j]:
            assert ordinals[i] == ordinals[j]
    assert (ordinals == 3).sum() <= len(values) // 4 + 1
    assert Conclusion.VERY_LOW.ordinal == ordinals.min()
