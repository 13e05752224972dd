"""What cannot be attributed, or shown to a reader, is said before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from slidestudy.attribution_kinds import attribution_problems, map_names, method_for, shown_images
from slidestudy.settings import check_config
from tests.configurations import changed

READER = {
    "kind": "openai", "base_url": "http://localhost/v1", "model": "m", "api_key_env": None,
    "describe_prompt": "a", "answer_prompt": "b", "image_only_prompt": "c",
}  # fmt: skip


def problems(images: list[str] = ["rgb"], encoder: Any = None, **attribution: Any) -> list[str]:  # noqa: B006
    """The problems of a configuration."""
    config = changed("explanations.attribution", attribution)
    config["explanations"]["reader"] = {**READER, "images": images}
    config["encoders"]["stain-texture"] = encoder or {}
    return [str(problem) for problem in attribution_problems(check_config(config, "study.yaml"), "study.yaml")]


def test_hand_crafted_features_are_occluded_and_networks_give_gradients():
    assert method_for("auto", "stain-texture") == "occlusion"
    assert method_for("auto", "timm") == "gradcam"
    assert method_for("occlusion", "timm") == "occlusion"
    assert problems(method="auto") == problems(method="occlusion") == problems() == []
    (found,) = problems(method="gradcam")
    assert "'til' is hand-crafted" in found
    assert "explanations.attribution.method" in found


def test_images_that_nothing_makes_are_refused():
    assert problems(["rgb", "occlusion_output"], method="auto") == []
    for images, options, said in [
        (["occlusion_output"], {}, "no image occlusion_output"),
        (["gradcam_output"], {"method": "auto"}, "no image gradcam_output"),
        (["normalised"], {"method": "auto"}, "no image normalised"),
    ]:
        (found,) = problems(images, **options)
        assert said in found
        assert "key explanations.reader.images" in found
    macenko = {"normaliser": {"method": "macenko"}}
    assert problems(["normalised"], macenko, method="auto") == []


def test_all_patches_are_attributed_where_the_reader_is_shown_maps():
    (found,) = problems(["rgb", "occlusion_output"], method="auto", patches=4)
    assert "only 4 are attributed" in found
    assert problems(["rgb"], method="auto", patches=4) == []


def test_squares_leave_no_pixel_out():
    (found,) = problems(method="auto", occlusion_window=0.1, occlusion_stride=0.2)
    assert "leave pixels out" in found


def test_imported_features_cannot_be_attributed():
    config = check_config(changed("explanations.attribution.method", "auto"), "study.yaml")
    config["encoders"]["stain-texture"]["backend"] = "imported"
    (found,) = attribution_problems(config, "study.yaml")
    assert "imported" in str(found)


@pytest.mark.parametrize("kind", ["morphometry", "clip"])
def test_readers_of_pixels_alone_are_shown_nothing_else(kind):
    assert shown_images({"kind": kind, "images": ["rgb", "gradcam_output"]}) == []
    assert shown_images({**READER, "images": ["rgb", "gradcam_output"]}) == ["gradcam_output"]


def test_maps_are_named_as_in_x2x():
    assert map_names("gradcam") == [
        "gradcam_output",
        "gradcam_attention",
        "gradcam_attention_x_score",
        "gradcam_inverse_output",
        "gradcam_inverse_attention",
    ]
