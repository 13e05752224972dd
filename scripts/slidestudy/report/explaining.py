"""What the report says of written explanations and their scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from slidestudy.explanations.answers import AnswerStatus
from slidestudy.explanations.subsets import FROZEN
from slidestudy.report.collect import ExplanationFiles, Results
from slidestudy.report.explanation_figures import draw_answers
from slidestudy.report.figures import forest
from slidestudy.report.inline import data_uri, inline_svg
from slidestudy.report.layout import Drawing, Picture, interval, interval_note, number, plural, spread_evenly

PATCH_SIDE = 180
"""Longer side of a patch in the page, px."""
PATCHES_PER_STRATUM = 6
STRATA = {
    "very_high": "Very high",
    "high_near": "High, near the threshold",
    "low_near": "Low, near the threshold",
    "very_low": "Very low",
}
KINDS = ("text", "imported", "inverted", "shuffled", "empty", "irrelevant", "image-only")
WRONG_SHOWN = 6
"""Patches that are shown of each text."""
NOT_A_VLM = "Answers come from deterministic image measurements, not from a vision-language model."
COMPARED = "Answers come from an image-text model that compares patches with statements: it reads no free text."


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


@dataclass(frozen=True)
class WrongPatches:
    """The patches on which a text is most wrong.

    Attributes:
        name: The text.
        pictures: The patches.
        told: What the reader was told of each, and answered.
    """

    name: str
    pictures: list[Picture]
    told: list[Text]


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
        "shuffled": "its answers given to other patches (“.shuffled”): the mean over many shufflings, with the "
        "interval of a single one, which is the width of chance",
        "empty": "no text at all (“control.empty”)",
        "irrelevant": "a text on nothing that an image shows (“control.irrelevant”), which should score about 0.5",
        "image-only": "the image without a text (“control.image-only”), which only a vision-language model can answer: "
        "what the reader knows by itself",
    }
    listed = "; ".join(said[c] for c in said if c in controls)
    return f"Automatic controls: {listed}." if listed else "There are no automatic controls."


def _asked(files: ExplanationFiles) -> pd.DataFrame:
    """The scores of the frozen sample that somebody answered for."""
    return files.scores[(files.scores["patches"] == FROZEN) & (files.scores["reader"] != "")]


def is_vlm(files: ExplanationFiles) -> bool:
    """Whether every answer came from a vision-language model."""
    return {str(flag) for flag in _asked(files)["is_vlm"]} == {"True"}


def reader_note(files: ExplanationFiles) -> str:
    """Who described the patches and answered, and whether that is a vision-language model."""
    names = sorted({str(name) for name in _asked(files)["reader"]})
    compared = any(name.startswith("clip:") for name in names)
    answers = "Answers come from a vision-language model." if is_vlm(files) else COMPARED if compared else NOT_A_VLM
    return f"Reader: {', '.join(names)}. {answers}"


def gate_note(files: ExplanationFiles) -> str:
    """What the reader's test on known patches said."""
    gate = files.gate
    if not gate:
        return (
            "The reader was not tested on known patches (explanations.gate): whether it can see what the texts speak "
            "of is not known."
        )
    patches = plural(int(gate["n"]), "known patch", "known patches")
    area = "undefined" if gate["auroc"] is None else interval(gate["auroc"], gate["ci_low"], gate["ci_high"], "auroc")
    told = f"The reader’s test, lymphocyte-rich against lymphocyte-poor on {patches}: AUROC {area}, needed "
    verdict = "passed" if gate["result"] == "passed" else f"FAILED ({gate['reason']}): the scores below mean little"
    return f"{told}{number(gate['smallest_auroc'], 2)}. {verdict.capitalize() if verdict == 'passed' else verdict}."


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
    if "x1" in options and "x3" in options:
        unit = "in logits" if options.get("unit") == "logit" else f"SD of {number(files.card.get('spread', 1), 3)}"
        near = f"{options['x1']:g} and {options['x3']:g} ({unit})"
        parts.append(f"X: all patches; X1 and X3: those farther than {near} from the threshold.")
    if options.get("strata_by"):
        parts.append(f"Balanced within each value of {options['strata_by']}.")
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
    """The explanations of the frozen sample, texts first, then their controls, then the common ones."""
    scores = files.scores[(files.scores["patches"] == FROZEN) & (files.scores["kind"] != "without")]
    kinds = dict(zip(scores["explanation"], scores["kind"], strict=True))
    ranks = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(kinds, key=lambda name: ranks.get(kinds[name], len(ranks)))


def main_scores(files: ExplanationFiles, metric: str, patches: str = FROZEN) -> pd.DataFrame:
    """The scores in one metric on one set of patches."""
    return files.scores[(files.scores["patches"] == patches) & (files.scores["metric"] == metric)]


def forest_plot(name: str, files: ExplanationFiles) -> Drawing:
    """The scores as a figure."""
    names = order(files)
    label = (
        f"AUROC of {plural(len(names), 'explanation')} of the model {name} with intervals; the numbers are in the table"
    )
    caption = (
        f"{name}: AUROC of every explanation on X (numbers beside it), X1 and X3, with intervals. Controls are grey "
        f"and hollow. {interval_note(files.intervals)}"
    )
    return Drawing(inline_svg(forest(main_scores(files, "auroc"), names), f"forest-{name}", label), caption)


def answers_plot(name: str, files: ExplanationFiles) -> Drawing | None:
    """The model's logit of every patch against the answer, a panel for each text."""
    panels = {}
    for text in (name for name in order(files) if name in files.answers):
        of = files.answers[text]
        listed = [of.get(str(patch)) for patch in files.sample["patch_id"]]
        abstained = [answer is not None and answer.status is AnswerStatus.ABSTAINED for answer in listed]
        drawn = [None if answer is None else answer.conclusion for answer in listed]
        panels[text] = pd.DataFrame({"logit": files.sample["logit"], "answer": drawn, "abstained": abstained})
    if not panels:
        return None
    label = f"Logits of the model {name} by the reader’s answer, for {plural(len(panels), 'text')}"
    caption = (
        f"{name}: the model’s logit of every patch of the frozen sample (n = {len(files.sample)}) by the reader’s "
        "answer to it, with the median of each answer. The dashed line is the threshold; a good text puts high logits "
        "on the right."
    )
    figure = draw_answers(panels, float(files.card.get("threshold", 0)))
    return Drawing(inline_svg(figure, f"answers-{name}", label), caption)


def most_wrong_parts(files: ExplanationFiles) -> list[WrongPatches]:
    """The patches whose answer is farthest from the model, of every text."""
    found = []
    rows = files.most_wrong[files.most_wrong["patches"] == FROZEN]
    for text, of in rows.groupby("explanation", sort=False):
        shown = [{str(k): v for k, v in row.items()} for row in of.head(WRONG_SHOWN).to_dict("records")]
        known = files.sample.set_index("patch_id")
        pictures, told = [], []
        for row in shown:
            patch = str(row["patch_id"])
            answer = files.answers.get(str(text), {}).get(patch)
            said = "mean of repeats" if answer is None else str(answer.conclusion or answer.status.value).lower()
            place = {str(k): v for k, v in known.loc[patch].to_dict().items()} | {"patch_id": patch}
            picture = _patch(files, place, str(place["stratum"]).replace("_", " "))
            if picture is not None:
                pictures.append(replace(picture, lines=(f"answer: {said}", *picture.lines)))
            parts = [files.descriptions.get(patch, "").strip(), "" if answer is None else answer.raw.strip()]
            told.append(Text(f"{patch}: logit {number(float(row['logit']), 2)}, answer {said}", "\n\n".join(parts)))
        found.append(WrongPatches(str(text), pictures, told))
    return found


def best_text(files: ExplanationFiles) -> dict[str, Any] | None:
    """The row of the written explanation with the highest AUROC on all patches, or None."""
    scores = files.scores
    keep = (scores["kind"] == "text") & (scores["subset"] == "X") & (scores["metric"] == "auroc")
    keep &= scores["patches"] == FROZEN
    rows = scores[keep & scores["value"].notna()].sort_values("value", ascending=False, kind="stable")
    return {str(k): v for k, v in rows.iloc[0].items()} if len(rows) else None
