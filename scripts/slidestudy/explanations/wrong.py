"""The patches on which an explanation is most wrong: what a person should look at next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from slidestudy.explanations.reading import Reading
from slidestudy.explanations.subsets import Patches

MOST_WRONG = [
    "explanation", "patches", "place", "patch_id", "slide_id", "cohort", "logit", "score", "answer", "logit_rank",
    "answer_rank", "error",
]  # fmt: skip
SHOWN = 12
"""Patches that are listed of each text."""


def most_wrong(readings: Sequence[Reading], patches: Patches, shown: int = SHOWN) -> pd.DataFrame:
    """The patches whose answer is farthest from the model.

    The error of a patch is the distance of two ranks, of its answer among the answers and of its logit among the
    logits, each from 0 to 1 with ties at their middle: so it needs neither the threshold nor a scale of the answers.

    Args:
        readings: The answers from each explanation; only written and imported texts are listed.
        patches: The patches.
        shown: Most patches listed of each text.

    Returns:
        The columns of MOST_WRONG, the worst first; `answer` is the ordinal, 0 to 3, the mean over repeats. Patches
        without an error are not listed.
    """
    tables = []
    for reading in readings:
        keep = np.isfinite(reading.ordinals[0])
        if reading.kind not in ("text", "imported") or not keep.any():
            continue
        ranks = {"logit_rank": _ranks(patches.logits[keep]), "answer_rank": _ranks(reading.ordinals[0][keep])}
        table = patches.table[keep].assign(answer=reading.ordinals[0][keep], **ranks)
        table["error"] = (table["logit_rank"] - table["answer_rank"]).abs().round(12)
        table = table[table["error"] > 0].sort_values(["error", "patch_id"], ascending=[False, True]).head(shown)
        places = range(1, 1 + len(table))
        tables.append(table.assign(explanation=reading.name, patches=patches.name, place=places))
    if not tables:
        return pd.DataFrame(columns=MOST_WRONG)
    return pd.concat(tables, ignore_index=True).reindex(columns=MOST_WRONG)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks from 0 to 1; one half where there is a single value."""
    return (rankdata(values) - 0.5) / len(values)
