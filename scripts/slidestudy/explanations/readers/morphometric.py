"""The morphometry reader: it measures instead of looking, and follows an explanation's claims to the letter.

It runs offline, gives the same answer every time and shows its sum, so that the machinery of explanation scoring can
be checked. It is no vision-language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from slidestudy.explanations import morphometry
from slidestudy.explanations.answers import ABSTAIN, Answer, Conclusion, answer_from_text
from slidestudy.explanations.claims import Claim, Morphology, parse_claims
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.naming import IMAGE_ONLY
from slidestudy.explanations.protocol import Patch, Question

__all__ = ["MEASUREMENT_OF", "MorphometryReader"]

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
    needs_images = False

    def describe_patches(self, patches: Sequence[Patch]) -> list[str]:
        """Measure all patches, then describe each in relation to all of them.

        Levels depend on the whole sample, so the sample must be described in one call.
        """
        table = [morphometry.measure_patch(patch.rgb, patch.mpp) for patch in patches]
        reference = morphometry.build_reference(table)
        return [morphometry.describe(measurements, reference) for measurements in table]

    def answer_all(self, questions: Sequence[Question], explanation: Explanation) -> list[Answer]:
        """Answer each question by itself (`answer`); without an explanation it abstains."""
        if explanation.name == IMAGE_ONLY:
            raw = f"Without an explanation there is no claim to follow.\nCONCLUSION={ABSTAIN}"
            return [replace(answer_from_text(q.patch_id, raw), repeat=q.repeat) for q in questions]
        text = explanation.text
        return [replace(self.answer(q.patch_id, q.description, text), repeat=q.repeat) for q in questions]

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
