"""Tables of the scores of written explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from slidestudy.explanations.subsets import FROZEN
from slidestudy.report.collect import ExplanationFiles
from slidestudy.report.explaining import main_scores, order
from slidestudy.report.layout import (
    Cell,
    Column,
    Table,
    Value,
    count,
    estimate_cell,
    first_row,
    interval_note,
    is_missing,
    make_table,
    number,
    plural,
)

SUBSETS = ("X", "X1", "X3")
MEANINGS = {
    "auroc": "AUROC with the model’s side of the threshold as truth and the reader’s answer as score; an abstention "
    "counts half way.",
    "auroc_reference": "X2X’s orientation: the reader’s answer as truth and the model’s logit as score; abstentions "
    "are left out.",
}
FURTHER = {
    "spearman": "Spearman",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "brier": "Brier score",
    "repeat_agreement": "Agreement of repeats",
}


def score_table(name: str, files: ExplanationFiles, metric: str) -> Table:
    """The scores of every explanation on X, X1 and X3 of the frozen sample."""
    scores = main_scores(files, metric)
    rows = [_score_row(scores, explanation, metric) for explanation in order(files)]
    caption = f"{name}: {MEANINGS[metric]} {interval_note(files.intervals)}"
    return make_table(caption, ["Explanation", "Kind", *[Column(s, numeric=True) for s in SUBSETS]], rows)


def set_tables(name: str, files: ExplanationFiles) -> list[Table]:
    """The scores on each set of patches that a person chose, apart from the frozen sample."""
    tables = []
    for patches in files.scores["patches"].drop_duplicates():
        if patches == FROZEN:
            continue
        scores = main_scores(files, "auroc", str(patches))
        names = scores.loc[scores["kind"] != "without", "explanation"].drop_duplicates()
        caption = f"{name}, patches of the set {patches}, which a person chose: {MEANINGS['auroc']}"
        columns: list[str | Column] = ["Explanation", "Kind", *[Column(s, numeric=True) for s in SUBSETS]]
        tables.append(make_table(caption, columns, [_score_row(scores, str(n), "auroc") for n in names]))
    return tables


def _score_row(scores: pd.DataFrame, explanation: str, metric: str) -> list[Value]:
    found = [first_row(scores, explanation=explanation, subset=subset) for subset in SUBSETS]
    cells = [estimate_cell(row, metric, note="" if row is None else _patches_used(row)) for row in found]
    return [explanation, next((str(row["kind"]) for row in found if row), None), *cells]


def _patches_used(row: dict[str, Any]) -> str:
    if is_missing(row["value"]):
        return ""
    return f"{plural(int(row['n']), 'patch', 'patches')}, {plural(int(row['n_patients']), 'patient')}"


def further_table(name: str, files: ExplanationFiles) -> Table:
    """Further metrics on all patches, but for what all explanations lack."""
    scores = files.scores[(files.scores["patches"] == FROZEN) & (files.scores["subset"] == "X")]
    given = [metric for metric in FURTHER if scores.loc[scores["metric"] == metric, "value"].notna().any()]
    rows: list[Sequence[Value]] = []
    for explanation in order(files):
        found = [first_row(scores, explanation=explanation, metric=metric) for metric in given]
        rows.append([explanation, *(estimate_cell(row, m) for row, m in zip(found, given, strict=True))])
    caption = (
        f"{name}: further metrics on all patches. Spearman: between ordinal answer and logit. Accuracy: share of "
        f"answers on the model’s side. {interval_note(files.intervals)}"
    )
    return make_table(caption, ["Explanation", *[Column(FURTHER[m], numeric=True) for m in given]], rows)


def answer_table(name: str, files: ExplanationFiles) -> Table:
    """What became of the answers, on all patches."""
    keys = ("n_answered", "n_abstained", "n_unparsed", "n_failed")
    main = main_scores(files, "auroc")
    rows: list[Sequence[Value]] = []
    for explanation in order(files):
        row = first_row(main, explanation=explanation, subset="X")
        if row is None or row["kind"] == "shuffled":
            continue
        counts = [int(row[key]) if row["reader"] else None for key in keys]
        rows.append([explanation, str(row["kind"]), *counts])
    caption = (
        f"{name}: answers on all patches. Unparsed answers hold no conclusion that can be read, failed ones never "
        "came; neither enters a score."
    )
    return make_table(caption, ["Explanation", "Kind", "#Answered", "#Abstained", "#Unparsed", "#Failed"], rows)


def pair_table(name: str, files: ExplanationFiles) -> Table:
    """Paired differences between explanations and from their controls."""
    pairs = files.pairs[files.pairs["patches"] == FROZEN]
    rows = []
    for first, second in dict.fromkeys(zip(pairs["explanation_a"], pairs["explanation_b"], strict=True)):
        found = [first_row(pairs, explanation_a=first, explanation_b=second, subset=subset) for subset in SUBSETS]
        cells = [estimate_cell(row, "auroc", "difference", note=_corrected(row)) for row in found]
        rows.append([Cell(f"{first} − {second}"), *cells])
    caption = (
        f"{name}: differences of AUROC on the patches that both could use, both scored on the same bootstrap draws. "
        f"P-values are corrected over the pairs of a column by Holm’s method. {interval_note(files.intervals)}"
    )
    return make_table(caption, ["Difference", *[Column(s, numeric=True) for s in SUBSETS]], rows)


def statement_table(name: str, files: ExplanationFiles) -> Table:
    """What each statement of each text is worth."""
    table = files.statements[(files.statements["patches"] == FROZEN) & (files.statements["subset"] == "X")]
    rows: list[Sequence[Value]] = []
    for row in ({str(k): v for k, v in found.items()} for found in table.to_dict("records")):
        said = "raises" if row["side"] == "higher" else "lowers"
        without = None if is_missing(row["auroc_without"]) else number(float(row["auroc_without"]), 2)
        gain = estimate_cell({**row, "difference": row["gain"]}, "auroc", "difference", note=_corrected(row))
        rows.append([str(row["explanation"]), Cell(str(row["statement"]), said), without, gain])
    caption = (
        f"{name}: what each statement is worth on all patches: the AUROC of the whole text less that of the text "
        "without it. Below 0 the text is better without. P-values are corrected over the statements of a text. "
        f"{interval_note(files.intervals)}"
    )
    return make_table(caption, ["Text", "Statement", "#AUROC without", Column("Gain", numeric=True)], rows)


def usage_table(name: str, files: ExplanationFiles) -> Table:
    """What the reader was asked, and what that cost."""
    rows: list[Sequence[Value]] = []
    for rule, of in files.usage.groupby("rule", sort=False):
        sums = [int(of[key].sum()) for key in ("requests", "from_ledger", "failed")]
        tokens = [count(int(of[key].sum())) if of[key].notna().any() else None for key in USED]
        cost = number(float(of["cost"].sum()), 4) if of["cost"].notna().any() else None
        rows.append([str(rule), *sums, *tokens, cost])
    caption = (
        f"{name}: what the endpoint was asked. Answers from the ledger were asked in an earlier run and cost nothing."
    )
    columns = ["Job", "#Requests", "#From the ledger", "#Failed", "#Tokens in", "#Tokens out", "#Cost"]
    return make_table(caption, columns, rows)


USED = ("input_tokens", "output_tokens")


def _corrected(row: dict[str, Any] | None) -> str:
    """The corrected p-value of a difference; blank without one."""
    if row is None or is_missing(row["p_holm"]):
        return ""
    p = float(row["p_holm"])
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
