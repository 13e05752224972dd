"""What can be attributed to the pixels of a patch, by which method, and what of it a reader can be shown."""

from __future__ import annotations

from typing import Any

from slidestudy.errors import Problem
from slidestudy.reader_kinds import ANSWERING

GRADCAM, OCCLUSION = "gradcam", "occlusion"
OUTPUT, ATTENTION, PRODUCT = "output", "attention", "attention_x_score"
TARGETS = (OUTPUT, ATTENTION, PRODUCT)
"""What is attributed: the tile's output, its attention before the softmax, its weight in a slide times its score."""
INVERTED = {f"inverse_{OUTPUT}": OUTPUT, f"inverse_{ATTENTION}": ATTENTION}
"""Maps of what lowers a target, and that target."""
NORMALISED = "normalised"
HAND_CRAFTED = "stain-texture"


def map_names(method: str) -> list[str]:
    """The names of all maps of a method, as their files are named."""
    return [f"{method}_{name}" for name in (*TARGETS, *INVERTED)]


def method_for(method: str, backend: str) -> str:
    """The method for an encoder: what the configuration says, or what the encoder can do."""
    if method != "auto":
        return method
    return OCCLUSION if backend == HAND_CRAFTED else GRADCAM


def shown_images(reader: dict[str, Any]) -> list[str]:
    """The images of a patch that a reader is shown beside its pixels as they are."""
    if "images" not in ANSWERING[reader["kind"]]:
        return []
    return [name for name in reader.get("images", []) if name != "rgb"]


def attribution_problems(config: dict[str, Any], source: str) -> list[Problem]:
    """Models that cannot be attributed, and images that a reader is to be shown and nothing makes.

    Args:
        config: The configuration, complete.
        source: Its file.
    """
    explanations = config["explanations"]
    options, wanted = explanations["attribution"], shown_images(explanations["reader"])
    key, images_key = f"{source}, key explanations.attribution", f"{source}, key explanations.reader.images"
    problems = []
    for name in explanations["models"]:
        encoder = config["encoders"].get(config["models"].get(name, {}).get("encoder"))
        if encoder is None:
            continue
        if options["method"] != "none":
            problems += _method_problems(name, encoder, options["method"], f"{key}.method")
        made = _images_of(encoder, options["method"])
        if missing := [image for image in wanted if image not in made]:
            what = f"patches of the model '{name}' have no image {', '.join(missing)}"
            remedy = f"they have: {', '.join(['rgb', *made])}; explanations.attribution.method makes further ones"
            problems.append(Problem(images_key, what, remedy))
    if options["occlusion_stride"] > options["occlusion_window"]:
        what = f"squares every {options['occlusion_stride']:g} of {options['occlusion_window']:g} leave pixels out"
        problems.append(Problem(f"{key}.occlusion_stride", what, "set it to at most occlusion_window"))
    if wanted and options["method"] != "none" and options["patches"] is not None:
        what = f"the reader is shown {', '.join(wanted)} of all patches, but only {options['patches']} are attributed"
        problems.append(Problem(f"{key}.patches", what, "set it to null"))
    return problems


def _images_of(encoder: dict[str, Any], method: str) -> list[str]:
    """The images that attribution makes of a patch."""
    if method == "none":
        return []
    normalised = encoder.get("normaliser", {}).get("method", "none") != "none"
    return [*([NORMALISED] if normalised else []), *map_names(method_for(method, encoder["backend"]))]


def _method_problems(model: str, encoder: dict[str, Any], method: str, where: str) -> list[Problem]:
    """Why an encoder cannot be attributed by a method."""
    if encoder["backend"] == "imported":
        what = f"the features of the model '{model}' are imported, so that changed patches cannot be encoded"
        return [Problem(where, what, "set none, or explain that model in a configuration of its own")]
    if encoder["backend"] == HAND_CRAFTED and method == GRADCAM:
        what = f"the encoder of the model '{model}' is hand-crafted and has no gradients"
        return [Problem(where, what, "set auto or occlusion")]
    return []
