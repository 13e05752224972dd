"""Made-up samples and answers for the tests of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.explanations.answers import Answer, AnswerStatus, Conclusion
from slidestudy.explanations.pairs import compare_readings
from slidestudy.explanations.reading import Reading, as_reading
from slidestudy.explanations.scoring import score_all
from slidestudy.explanations.subsets import FROZEN, Patches, make_patches

SETTINGS = {"bootstrap": 200, "confidence": 0.95, "seed": 3, "x1": 0.5, "x3": 1.5, "unit": "sd", "smallest": 2}
CARD = {"threshold": 0.4, "spread": 2.0, "digest": "abc"}
A, F, U = AnswerStatus.ABSTAINED, AnswerStatus.FAILED, AnswerStatus.UNPARSED
VH, HB, LB, VL = Conclusion


def make_sample(n: int = 40, seed: int = 0, per_patient: int = 2) -> pd.DataFrame:
    """Patches with normal logits, the first two far on either side."""
    logits = np.random.default_rng(seed).normal(CARD["threshold"], CARD["spread"], n)
    logits[:2] = [3.9, -3.1]
    ids = {"patch_id": [f"s/{i:03d}" for i in range(n)], "patient_id": [f"p{i // per_patient}" for i in range(n)]}
    return pd.DataFrame({**ids, "slide_id": "s", "cohort": "c", "logit": logits, "score": 1 / (1 + np.exp(-logits))})


def patches_of(sample: pd.DataFrame, **changed: Any) -> Patches:
    """A sample as it is scored."""
    return make_patches(FROZEN, sample, str(CARD["digest"]), CARD, {**SETTINGS, **changed})


def an_answer(patch: str, value: Any, probability: float | None = None, repeat: int = 0) -> Answer:
    """An answer of a conclusion, or of a status without one."""
    known = isinstance(value, Conclusion)
    status = AnswerStatus.ANSWERED if known else value
    return Answer(patch, status, value if known else None, "", probability, repeat)


def answered(sample: pd.DataFrame, *repeats: Sequence[Any], name: str = "text", given: Any = None) -> Reading:
    """Answers in the sample's order, a list for each repeat."""
    chances = [None] * len(sample) if given is None else given
    rows = [
        an_answer(patch, value, chance, repeat)
        for repeat, values in enumerate(repeats)
        for patch, value, chance in zip(sample["patch_id"], values, chances, strict=True)
    ]
    return as_reading(name, rows, list(sample["patch_id"]), "scripted", False)


def truthful(sample: pd.DataFrame, inverted: bool = False) -> list[Conclusion]:
    """What a perfect explanation, or its inverse, leads to."""
    distance = (sample["logit"] - CARD["threshold"]) / CARD["spread"] * (-1 if inverted else 1)
    return [VH if d > 0.5 else HB if d > 0 else LB if d > -0.5 else VL for d in distance]


def random_values(seed: int, n: int = 40) -> list[Any]:
    """Conclusions, abstentions and unparsed answers."""
    return list(np.random.default_rng(seed).choice(np.array([VH, HB, LB, VL, A, U], object), n))


def scores_of(sample: pd.DataFrame, *readings: Reading, **changed: Any) -> pd.DataFrame:
    """Scores by subset and metric."""
    return score_all(readings, patches_of(sample, **changed), {**SETTINGS, **changed}).set_index(["subset", "metric"])


def scored(sample: pd.DataFrame, values: Sequence[Any], **changed: Any) -> pd.DataFrame:
    """Scores of one list of answers."""
    return scores_of(sample, answered(sample, values), **changed)


def pairs_of(sample: pd.DataFrame, /, **values: Any) -> pd.DataFrame:
    """Pairs of explanations by subset; a value is a list of answers or a reading."""
    readings = [v if isinstance(v, Reading) else answered(sample, v, name=name) for name, v in values.items()]
    return compare_readings(readings, patches_of(sample), SETTINGS).set_index("subset")
