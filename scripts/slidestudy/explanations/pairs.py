"""Paired comparisons: explanations with each other and with their controls, and what each statement is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from slidestudy import statistics
from slidestudy.difference_statistics import difference_of_draws, holm
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.naming import COMMON_CONTROLS, OF_A_TEXT, WITHOUT
from slidestudy.explanations.reading import Reading
from slidestudy.explanations.subsets import Patches, Subset, over_rows

Array = NDArray[np.float64]

PAIRS = [
    "explanation_a", "explanation_b", "patches", "subset", "difference", "ci_low", "ci_high", "p", "p_holm", "n",
    "n_patients", "undefined_reason",
]  # fmt: skip
STATEMENTS = [
    "explanation", "number", "side", "statement", "patches", "subset", "auroc", "auroc_without", "gain", "ci_low",
    "ci_high", "p", "p_holm", "n", "n_patients", "undefined_reason",
]  # fmt: skip


def pair_names(names: Sequence[str], texts: Sequence[str]) -> list[tuple[str, str]]:
    """Which explanations are compared: each text with those after it, its own controls and the common ones.

    Args:
        names: All names that are scored.
        texts: Those of written or imported explanations.
    """
    pairs = []
    for i, text in enumerate(texts):
        others = [*texts[i + 1 :], *(f"{text}.{kind}" for kind in OF_A_TEXT), *COMMON_CONTROLS]
        pairs += [(text, other) for other in others if other in names]
    return pairs


def compare_readings(readings: Sequence[Reading], patches: Patches, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Paired differences of AUROC, each on the patches that both could use and on the same bootstrap draws.

    P-values invert the percentile interval and are corrected over the pairs of a subset by Holm's method.

    Args:
        readings: The answers from each explanation.
        patches: The patches.
        settings: `confidence smallest`.

    Returns:
        The columns of PAIRS.
    """
    by_name = {reading.name: reading for reading in readings}
    texts = [reading.name for reading in readings if reading.kind in ("text", "imported")]
    rows = []
    for first, second in pair_names(list(by_name), texts):
        for part in patches.parts:
            names = {"explanation_a": first, "explanation_b": second, "patches": patches.name, "subset": part.name}
            found = difference(by_name[first], by_name[second], patches, part, settings)
            rows.append({**names, **found})
    return _corrected(pd.DataFrame(rows, columns=PAIRS), ["subset"])


def score_statements(
    readings: Sequence[Reading], texts: Mapping[str, Explanation], patches: Patches, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """What each statement of each text is worth: the AUROC of the whole text less that of the text without it.

    Args:
        readings: The answers from each explanation.
        texts: The written explanations.
        patches: The patches.
        settings: `confidence smallest`.

    Returns:
        The columns of STATEMENTS; p-values are corrected over the statements of a text on a subset.
    """
    by_name = {reading.name: reading for reading in readings}
    rows = []
    for name, text in texts.items():
        for number, statement in enumerate(text.statements, 1):
            without = by_name.get(f"{name}{WITHOUT}{number}")
            if without is None or name not in by_name:
                continue
            side = "higher" if number <= len(text.higher) else "lower"
            said = {"explanation": name, "number": number, "side": side, "statement": statement}
            for part in patches.parts:
                found = difference(by_name[name], without, patches, part, settings)
                gain = found.pop("difference")
                pair = dict(zip(("auroc", "auroc_without"), found.pop("of"), strict=True))
                rows.append({**said, "patches": patches.name, "subset": part.name, **pair, "gain": gain, **found})
    return _corrected(pd.DataFrame(rows, columns=STATEMENTS), ["explanation", "subset"])


def difference(
    first: Reading, second: Reading, patches: Patches, part: Subset, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The difference of two AUROCs with its paired interval and p-value.

    Returns:
        `difference ci_low ci_high p n n_patients undefined_reason`, and `of`: the two AUROCs. Blank where undefined.
    """
    usable = part.rows & np.isfinite(first.ordinals) & np.isfinite(second.ordinals)
    used = np.any(usable, axis=0)
    n, count = int(used.sum()), len(np.unique(patches.patients[used]))
    row: dict[str, Any] = {**dict.fromkeys(("difference", "ci_low", "ci_high", "p")), "n": n, "n_patients": count}
    row |= {"of": (None, None), "undefined_reason": first.unasked or second.unasked}
    label = patches.label
    if not row["undefined_reason"]:
        row["undefined_reason"] = _why_not(label[used], settings["smallest"])
    if row["undefined_reason"]:
        return row
    rows = [np.broadcast_to(reading.ordinals, usable.shape) for reading in (first, second)]
    areas = [over_rows(statistics.auroc, label, row, usable) for row in rows]
    values = [float(area(used.astype(float)[None])[0]) for area in areas]
    draws = [area(part.weights) for area in areas]
    found = difference_of_draws(values[0] - values[1], draws[0] - draws[1], n, count, settings["confidence"])
    return {**row, **found, "of": tuple(values)}


def _why_not(label: Array, smallest: int) -> str:
    """Why a difference cannot be given; blank where it can."""
    if len(label) == 0:
        return "no rows"
    if len(label) < smallest:
        return f"{len(label)} patches, fewer than {smallest}"
    return "one class only" if np.ptp(label) == 0 else ""


def _corrected(table: pd.DataFrame, family: list[str]) -> pd.DataFrame:
    """The table with `p_holm`, corrected within each family of rows."""
    table["p_holm"] = pd.Series(dtype=object)
    for _, part in table.groupby(family, sort=False):
        table.loc[part.index, "p_holm"] = holm([None if pd.isna(p) else float(p) for p in part["p"]])
    return table
