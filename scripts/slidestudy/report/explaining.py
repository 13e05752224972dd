"""What the report says of written explanations and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from slidestudy.report.collect import ExplanationFiles, Results
from slidestudy.report.figures import forest
from slidestudy.report.inline import data_uri, inline_svg
from slidestudy.report.layout import (
    Cell,
    Column,
    Drawing,
    Picture,
    Table,
    Value,
    estimate_cell,
    first_row,
    interval_note,
    is_missing,
    make_table,
    number,
    plural,
    spread_evenly,
)

PATCH_SIDE = 180
"""Longer side of a patch in the page, px."""
PATCHES_PER_STRATUM = 6
STRATA = {
    "very_high": "Very high",
    "high_near": "High, near the threshold",
    "low_near": "Low, near the threshold",
    "very_low": "Very low",
}
SUBSETS = ("X", "X1", "X3")
NOT_A_VLM = "Answers come from deterministic image measurements, not from a vision-language model."


@dataclass(frozen=True)
class Stratum:
    """Patches of one range of the model's score.

    Attributes:
        title: Its name, with the number of its patches.
        pictures: Some of them.
    """

    title: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Text:
    """A written explanation.

    Attributes:
        name: Its name.
        text: What it says, as written.
    """

    name: str
    text: str


def texts(results: Results) -> list[Text]:
    """The explanations as written."""
    names = (results.settings.get("explanations") or {}).get("texts") or {}
    return [Text(name, results.texts.get(name, "The file of this text was not found.")) for name in names]


def control_note(results: Results) -> str:
    """What the automatic controls are."""
    controls = (results.settings.get("explanations") or {}).get("controls") or []
    said = {
        "inverted": "each text with its directions inverted (“.inverted”), which should score as far below 0.5 as the "
        "text scores above",
        "irrelevant": "a text on nothing that an image shows (“control.irrelevant”), which should score about 0.5",
    }
    listed = "; ".join(said[c] for c in said if c in controls)
    return f"Automatic controls: {listed}." if listed else "There are no automatic controls."


def is_vlm(files: ExplanationFiles) -> bool:
    """Whether every answer came from a vision-language model."""
    return {str(flag) for flag in files.scores["is_vlm"]} == {"True"}


def reader_note(files: ExplanationFiles) -> str:
    """Who described the patches and answered, and whether that is a vision-language model."""
    names = sorted({str(name) for name in files.scores["reader"]})
    answers = "Answers come from a vision-language model." if is_vlm(files) else NOT_A_VLM
    return f"Reader: {', '.join(names)}. {answers}"


def sample_note(files: ExplanationFiles, results: Results) -> str:
    """What the patch sample and its subsets are."""
    sample, options = files.sample, (results.settings.get("explanations") or {}).get("sample") or {}
    cohorts = ", ".join(dict.fromkeys(sample["cohort"]))
    parts = [
        f"Frozen sample of {plural(len(sample), 'patch', 'patches')} from "
        f"{plural(sample['slide_id'].nunique(), 'slide')} of {plural(sample['patient_id'].nunique(), 'patient')} "
        f"({cohorts}), the same for every explanation."
    ]
    if "threshold" in files.card:
        origin = files.card.get("threshold_from")
        of = f" ({origin})" if origin else ""
        threshold = f"{number(files.card['threshold'], 3)}{of}"
        parts.append(f"A patch counts as high where the model’s logit is above {threshold}.")
    unit = f" of {number(files.card['spread'], 3)}" if "spread" in files.card else ""
    if "x1" in options and "x3" in options:
        parts.append(
            f"X: all patches; X1 and X3: those farther than {options['x1']:g} and {options['x3']:g} SD{unit} from the "
            "threshold."
        )
    return " ".join(parts)


def strata(files: ExplanationFiles) -> list[Stratum]:
    """Some patches of each stratum, spread over its scores."""
    found = []
    for stratum, title in STRATA.items():
        rows = files.sample[files.sample["stratum"] == stratum].sort_values(
            ["logit", "patch_id"], ascending=[False, True], ignore_index=True
        )
        pictures = [
            picture
            for row in rows.iloc[spread_evenly(len(rows), PATCHES_PER_STRATUM)].to_dict("records")
            if (picture := _patch(files, {str(k): v for k, v in row.items()}, title)) is not None
        ]
        if pictures:
            patches = plural(len(rows), "patch", "patches")
            found.append(Stratum(f"{title} ({len(pictures)} of {patches})", pictures))
    return found


def _patch(files: ExplanationFiles, row: dict[str, Any], stratum: str) -> Picture | None:
    """A patch of the sample, if its image is there."""
    x, y, slide = int(row["x"]), int(row["y"]), str(row["slide_id"])
    path = files.patches / slide / f"{x}-{y}-{float(row['mpp']):.1f}" / "rgb.jpeg"
    if not path.is_file():
        return None
    score = number(float(row["score"]), 3)
    alt = f"Patch of slide {slide} at x {x}, y {y}; stratum {stratum.lower()}; model score {score}"
    return Picture(data_uri(path, PATCH_SIDE), alt, f"score {score}", (f"{slide}, {row['cohort']}", f"x {x}, y {y}"))


def examples(files: ExplanationFiles) -> list[Text]:
    """What the reader was told of the highest patch of each stratum."""
    found = []
    for stratum, title in STRATA.items():
        rows = files.sample[files.sample["stratum"] == stratum].sort_values(
            ["logit", "patch_id"], ascending=[False, True]
        )
        if len(rows) and (description := files.descriptions.get(str(rows.iloc[0]["patch_id"]))):
            found.append(Text(f"{title}: patch {rows.iloc[0]['patch_id']}", description.strip()))
    return found


def order(files: ExplanationFiles) -> list[str]:
    """The explanations, texts first, then the inverted ones, then the irrelevant one; as in the scores otherwise."""
    kinds = dict(zip(files.scores["explanation"], files.scores["kind"], strict=True))
    ranks = {"text": 0, "inverted": 1, "irrelevant": 2}
    return sorted(kinds, key=lambda name: ranks.get(kinds[name], 3))


def score_table(name: str, files: ExplanationFiles, metric: str) -> Table:
    """The scores of every explanation on X, X1 and X3."""
    scores = files.scores[files.scores["metric"] == metric]
    rows = []
    for explanation in order(files):
        found = [first_row(scores, explanation=explanation, subset=subset) for subset in SUBSETS]
        cells = [estimate_cell(row, metric, note="" if row is None else _patches_used(row)) for row in found]
        rows.append([explanation, next((str(row["kind"]) for row in found if row), None), *cells])
    meaning = {
        "auroc": "AUROC with the model’s side of the threshold as truth and the reader’s answer as score; an "
        "abstention counts half way.",
        "auroc_reference": "X2X’s orientation: the reader’s answer as truth and the model’s logit as score; "
        "abstentions are left out.",
    }[metric]
    caption = f"{name}: {meaning} {interval_note(files.intervals)}"
    return make_table(caption, ["Explanation", "Kind", *[Column(s, numeric=True) for s in SUBSETS]], rows)


def _patches_used(row: dict[str, Any]) -> str:
    return f"{plural(int(row['n']), 'patch', 'patches')}, {plural(int(row['n_patients']), 'patient')}"


def answer_table(name: str, files: ExplanationFiles) -> Table:
    """What became of the answers, on all patches."""
    keys = ("n_answered", "n_abstained", "n_unparsed", "n_failed")
    main = files.scores[files.scores["metric"] == "auroc"]
    rows: list[Sequence[Value]] = []
    for explanation in order(files):
        row = first_row(main, explanation=explanation, subset="X")
        counts = [None if row is None or is_missing(row[key]) else int(row[key]) for key in keys]
        rows.append([explanation, None if row is None else str(row["kind"]), *counts])
    caption = (
        f"{name}: answers on all patches. Unparsed answers hold no conclusion that can be read, failed ones never "
        "came; neither enters a score."
    )
    return make_table(caption, ["Explanation", "Kind", "#Answered", "#Abstained", "#Unparsed", "#Failed"], rows)


def pair_table(name: str, files: ExplanationFiles) -> Table:
    """Paired differences between explanations."""
    pairs: pd.DataFrame = files.pairs
    rows = []
    for first, second in dict.fromkeys(zip(pairs["explanation_a"], pairs["explanation_b"], strict=True)):
        found = [first_row(pairs, explanation_a=first, explanation_b=second, subset=subset) for subset in SUBSETS]
        rows.append([Cell(f"{first} − {second}"), *[estimate_cell(row, "auroc", "difference") for row in found]])
    caption = (
        f"{name}: differences of AUROC on the patches that both could use, both scored on the same bootstrap draws. "
        f"{interval_note(files.intervals)}"
    )
    return make_table(caption, ["Difference", *[Column(s, numeric=True) for s in SUBSETS]], rows)


def forest_plot(name: str, files: ExplanationFiles) -> Drawing:
    """The scores as a figure."""
    names = order(files)
    main = files.scores[files.scores["metric"] == "auroc"]
    label = (
        f"AUROC of {plural(len(names), 'explanation')} of the model {name} with intervals; the numbers are in the table"
    )
    caption = (
        f"{name}: AUROC of every explanation on X (numbers beside it), X1 and X3, with intervals. Controls are grey "
        f"and hollow. {interval_note(files.intervals)}"
    )
    return Drawing(inline_svg(forest(main, names), f"forest-{name}", label), caption)


def best_text(files: ExplanationFiles) -> dict[str, Any] | None:
    """The row of the written explanation with the highest AUROC on all patches, or None."""
    scores = files.scores
    keep = (scores["kind"] == "text") & (scores["subset"] == "X") & (scores["metric"] == "auroc")
    rows = scores[keep & scores["value"].notna()].sort_values("value", ascending=False, kind="stable")
    return {str(k): v for k, v in rows.iloc[0].items()} if len(rows) else None
