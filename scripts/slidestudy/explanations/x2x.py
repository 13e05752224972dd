"""The `results.csv` of X2X: what its reader answered from one explanation, one row per patch.

Facts of X2X (NKI-AI/x2x): columns `image_path conclusion logit attention binary_logit image_description
prediction_of_score`; the file lies in `<explanation>/<time>/results.csv`, and its analysis takes the explanation's name
from there. A conclusion that contains LOW counts as low, else one that contains HIGH as high, all others are dropped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.explanations.answers import Answer, AnswerStatus, parse_conclusion
from slidestudy.explanations.naming import IMPORTED

COLUMNS = [
    "image_path", "conclusion", "logit", "attention", "binary_logit", "image_description", "prediction_of_score",
]  # fmt: skip
READER = "results.csv"
FILE = "results.csv"


def results_files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The `results.csv` files below a folder, by the name under which their answers are scored: `imported.<name>`.

    The name is that of the folder two levels up, as X2X takes it, or of the file's own folder where that is the set's;
    a number follows where two have the same.
    """
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).rglob(FILE)):
        parts = path.relative_to(folder).parts[:-1]
        name = parts[-2] if len(parts) > 1 else (parts[0] if parts else "answers")
        base = IMPORTED + re.sub(r"[^A-Za-z0-9_-]+", "-", name)
        unique, number = base, 2
        while unique in found:
            unique, number = f"{base}-{number}", number + 1
        found[unique] = path
    return found


def read_results(path: str | os.PathLike[str], patch_ids: Sequence[str]) -> str:
    """The answers in a `results.csv`, as the JSON lines of `answers/<explanation>.jsonl`.

    A patch without a row, which X2X drops, has failed.

    Args:
        path: The file.
        patch_ids: The patches of the set, `<slide>/<x>-<y>-<mpp>`.

    Raises:
        StudyError: A column is missing, or a row names no patch of the set.
    """
    # X2X's texts hold line breaks within quotes, which the study's own tables may not.
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise StudyError(f"cannot be read ({error})", str(path), "save it as comma-separated UTF-8 text") from None
    missing = [name for name in ("image_path", "conclusion") if name not in table]
    if missing:
        raise StudyError(f"has no column {' and '.join(missing)}", str(path), f"X2X writes {', '.join(COLUMNS)}")
    answers: dict[str, Answer] = {}
    for place, row in enumerate(table.to_dict("records"), 2):
        patch = "/".join(Path(row["image_path"].replace("\\", "/")).parts[-3:-1])
        if patch not in patch_ids:
            what = f"'{row['image_path']}' is no patch of the set"
            raise StudyError(what, f"{path}, row {place}, column image_path", "remove the row, or add the patch")
        conclusion, status = parse_conclusion(f"CONCLUSION={row['conclusion']}")
        raw = row.get("prediction_of_score") or row["conclusion"]
        answers[patch] = Answer(patch, status, conclusion, raw)
    absent = f"no row in {FILE}"
    listed = [answers.get(patch, Answer(patch, AnswerStatus.FAILED, None, absent)) for patch in patch_ids]
    common = {"reader": READER, "is_vlm": True}
    return "".join(json.dumps({**answer.to_dict(), **common}, ensure_ascii=False) + "\n" for answer in listed)


def results_table(
    sample: pd.DataFrame, answers: Sequence[Answer], descriptions: Mapping[str, str], threshold: float
) -> pd.DataFrame:
    """Answers in the form of X2X's `results.csv`, the first asking of each patch.

    X2X drops what is neither HIGH nor LOW: ABSTAIN, UNPARSED and FAILED stand there and are dropped by its analysis.

    Args:
        sample: `patch_id logit attention_logit`.
        answers: One per patch and repeat.
        descriptions: Patch id -> its description.
        threshold: The logit that divides high from low.
    """
    first = {answer.patch_id: answer for answer in answers if answer.repeat == 0}
    words = {AnswerStatus.ABSTAINED: "ABSTAIN", AnswerStatus.UNPARSED: "UNPARSED", AnswerStatus.FAILED: "FAILED"}
    rows = []
    for row in sample.itertuples():
        patch = str(row.patch_id)
        answer = first[patch]
        conclusion = words[answer.status] if answer.conclusion is None else answer.conclusion.value
        attention = row.attention_logit if "attention_logit" in sample else None
        high = int(float(row.logit) > threshold)
        rows.append(
            [f"{patch}/rgb.jpeg", conclusion, row.logit, attention, high, descriptions.get(patch, ""), answer.raw]
        )
    return pd.DataFrame(rows, columns=COLUMNS)
