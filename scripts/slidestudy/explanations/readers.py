"""Readers: who describes a patch, and predicts the model's score from that description and an explanation.

Two kinds share one protocol: a vision-language model (`vlm.VlmReader`) and the morphometry reader below,
which measures instead of looking and follows an explanation's claims to the letter. The second runs offline,
gives the same answer every time and shows its sum, so that the machinery of explanation scoring can be
checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.explanations import morphometry
from slidestudy.explanations.answers import ABSTAIN, Answer, Conclusion, answer_from_text
from slidestudy.explanations.claims import Claim, Morphology, parse_claims
from slidestudy.explanations.protocol import Patch, Reader
from slidestudy.explanations.vlm import VlmReader, VlmSettings

__all__ = ["MEASUREMENT_OF", "MorphometryReader", "build_reader"]

VERY = 0.75
"""Mean contribution beyond which the morphometry reader says VERY HIGH or VERY LOW (-2 to 2; our choice)."""

MEASUREMENT_OF: Mapping[Morphology, str] = {
    Morphology.LYMPHOCYTES: "lymphocyte_density",
    Morphology.TUMOUR: "large_nucleus_density",
    Morphology.CELLULARITY: "nuclear_density",
    Morphology.NUCLEAR_SIZE: "nuclear_area_mean",
    Morphology.PLEOMORPHISM: "nuclear_area_cv",
    Morphology.STROMA: "stroma_fraction",
    Morphology.FAT: "fat_fraction",
    Morphology.MUCIN: "mucin_fraction",
    Morphology.BACKGROUND: "white_fraction",
    Morphology.HAEMATOXYLIN: "haematoxylin_od",
    Morphology.EOSIN: "eosin_od",
}
"""The measurement that stands for each morphology a claim can name."""


class MorphometryReader:
    """Measures patches, and adds up what an explanation claims about what was measured."""

    name = "morphometry"
    is_vlm = False

    def describe_patches(self, images: Sequence[Patch]) -> list[str]:
        """Measure all patches, then describe each in relation to all of them.

        Levels depend on the whole sample, so the sample must be described in one call.
        """
        table = [morphometry.measure_patch(patch.rgb, patch.mpp) for patch in images]
        reference = morphometry.build_reference(table)
        return [morphometry.describe(measurements, reference) for measurements in table]

    def answer(self, patch_id: str, description: str, explanation: str) -> Answer:
        """Add up direction times level over the explanation's claims, and conclude from the mean.

        The mean of one claim per line (level -2 to 2) gives VERY HIGH above 0.75 and VERY LOW below -0.75,
        else the side of the boundary by its sign. A mean of exactly 0 is decided by the percentiles, which
        are in the description too, and one that is level even then by LOW NEAR BOUNDARY. Without a claim
        about a measured morphology it abstains.
        """
        levels = morphometry.parse_description(description)
        claims = parse_claims(explanation)
        measured = [claim for claim in claims if MEASUREMENT_OF[claim.morphology] in levels]
        lines = [_not_measured(claim) for claim in claims if claim not in measured]
        if not measured:
            reason = "none is measured in this patch" if claims else "the explanation makes none that can be read"
            lines.append(f"No claim can be followed: {reason}.")
            return answer_from_text(patch_id, "\n".join([*lines, f"CONCLUSION={ABSTAIN}"]))
        total = 0
        for claim in measured:
            level = levels[MEASUREMENT_OF[claim.morphology]]
            total += claim.direction * level
            lines.append(_contribution(claim, level))
        mean = total / len(measured)
        lines.append(f"Mean of {len(measured)} claim(s), on a scale of -2 to 2: {mean:+.2f}.")
        conclusion, reason = _conclude(mean, measured, morphometry.parse_percentiles(description))
        return answer_from_text(patch_id, "\n".join([*lines, reason, f"CONCLUSION={conclusion.value}"]))


def _not_measured(claim: Claim) -> str:
    return f"{claim.morphology.value}: claimed, but not measured in this patch."


def _contribution(claim: Claim, level: int) -> str:
    verb = "raises" if claim.direction > 0 else "lowers"
    word = morphometry.LEVEL_WORDS[level + 2]
    return f"{claim.morphology.value}: {verb} the score, level {word}: {claim.direction * level:+d}."


def _conclude(mean: float, claims: Sequence[Claim], percentiles: Mapping[str, float]) -> tuple[Conclusion, str]:
    if abs(mean) > VERY:
        side = Conclusion.VERY_HIGH if mean > 0 else Conclusion.VERY_LOW
        return side, f"The mean lies beyond {VERY} from the middle."
    if mean != 0:
        side = Conclusion.HIGH_NEAR_BOUNDARY if mean > 0 else Conclusion.LOW_NEAR_BOUNDARY
        return side, f"The mean lies within {VERY} of the middle."
    lean = sum(claim.direction * (percentiles[MEASUREMENT_OF[claim.morphology]] - 50.0) for claim in claims)
    if lean > 0:
        return Conclusion.HIGH_NEAR_BOUNDARY, "A tie of levels, decided upwards by the percentiles."
    if lean < 0:
        return Conclusion.LOW_NEAR_BOUNDARY, "A tie of levels, decided downwards by the percentiles."
    return Conclusion.LOW_NEAR_BOUNDARY, "A tie of levels and percentiles, decided as low by rule."


def build_reader(settings: Mapping[str, Any]) -> Reader:
    """Make the reader that a study asks for.

    Args:
        settings: ``{kind: morphometry}``, or ``{kind: vlm, model: ..., describe_prompt: path, answer_prompt:
        path}``
            with any other field of `vlm.VlmSettings`.

    Raises:
        StudyError: the kind or a key is unknown, a key is missing, or what `VlmReader` refuses.
    """
    kind = settings.get("kind")
    makers: dict[Any, Callable[[dict[str, Any]], Reader]] = {
        "morphometry": _build_morphometry,
        "vlm": _build_vlm,
    }
    if kind not in makers:
        raise StudyError(f"unknown kind of reader {kind!r}", "reader: kind", "use morphometry or vlm")
    return makers[kind]({key: value for key, value in settings.items() if key != "kind"})


def _build_morphometry(settings: dict[str, Any]) -> Reader:
    _refuse_unknown(settings, known=())
    return MorphometryReader()


def _build_vlm(settings: dict[str, Any]) -> Reader:
    _refuse_unknown(settings, known=[entry.name for entry in fields(VlmSettings)])
    missing = [key for key in ("model", "describe_prompt", "answer_prompt") if not settings.get(key)]
    if missing:
        raise StudyError(f"the reader lacks {', '.join(missing)}", "reader", "a vlm reader needs all of them")
    prompts = {key: Path(settings[key]) for key in ("describe_prompt", "answer_prompt")}
    return VlmReader(VlmSettings(**(settings | prompts)))


def _refuse_unknown(settings: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        remedy = f"known keys: {', '.join(['kind', *known])}"
        raise StudyError(f"unknown setting(s) {', '.join(unknown)}", "reader", remedy)
