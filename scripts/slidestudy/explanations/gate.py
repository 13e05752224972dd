"""The reader's test: does it tell lymphocyte-rich patches from lymphocyte-poor ones, whatever any model says?

A reader that cannot see lymphocytes says nothing about an explanation that speaks of them. So known patches are put to
it with the shortest explanation there is, and its AUROC stands beside every score.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from slidestudy import statistics
from slidestudy.errors import Problem, StudyError
from slidestudy.explanations.answers import AnswerStatus
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.protocol import Patch, Question, Reader
from slidestudy.explanations.reading import Reading, as_reading
from slidestudy.files import digest, file_digest
from slidestudy.tables import read_table

PASSED, FAILED, NOT_TESTED = "passed", "failed", "not tested"
QUESTION = Explanation(
    name="gate", title="Lymphocytes raise the score", author="", model="", higher=("lymphocytes",), lower=(), body=""
)
"""What the reader answers from: the same for every reader and study."""


def read_gate(table: str | os.PathLike[str]) -> tuple[pd.DataFrame, list[Patch]]:
    """Reads the known patches.

    Args:
        table: A TSV `image mpp rich` and, where several patches come from one patient or image, `patient`; images are
            relative to it, `rich` is 1 where there are many lymphocytes and 0 where there are few.

    Returns:
        The table with `patient`, which is the image where it is not given, and the patches.

    Raises:
        StudyError: With every problem of the table and its images, or if all patches are of one class.
    """
    rows = read_table(table, "gate")
    patches, problems = [], []
    for number, row in enumerate(rows.itertuples(), 2):
        path = Path(table).parent / str(row.image)
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            where = f"{table}, line {number}, column image"
            problems.append(Problem(where, f"{path} is no image that can be read", "correct the path"))
            continue
        rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        patches.append(Patch(str(row.image), rgb, float(row.mpp)))
    if not problems and rows["rich"].nunique() < 2:
        problems.append(Problem(f"{table}, column rich", "all patches are of one class", "add patches of the other"))
    if problems:
        raise StudyError.of(problems)
    patient = rows["patient"] if "patient" in rows else rows["image"]
    return rows.assign(patient=patient.fillna(rows["image"]).astype(str)), patches


def gate_digest(table: str | os.PathLike[str], patches: pd.DataFrame) -> str:
    """Digest of the known patches, by their images and classes."""
    folder = Path(table).parent
    return digest(
        [[file_digest(folder / str(row.image)), float(row.mpp), int(row.rich)] for row in patches.itertuples()]
    )


def ask_gate(reader: Reader, patches: Sequence[Patch]) -> Reading:
    """Has the reader describe the known patches and answer about them."""
    descriptions = reader.describe_patches(patches)
    questions = [
        Question(patch.patch_id, description, patch if reader.needs_images else None)
        for patch, description in zip(patches, descriptions, strict=True)
    ]
    answers = reader.answer_all(questions, QUESTION)
    return as_reading(QUESTION.name, answers, [p.patch_id for p in patches], reader.name, reader.is_vlm)


def judge_gate(reading: Reading, table: pd.DataFrame, settings: dict[str, Any]) -> dict[str, Any]:
    """What the test says.

    Args:
        reading: The reader's answers.
        table: The known patches, `rich patient`.
        settings: `smallest_auroc bootstrap confidence seed`. The test is passed where the AUROC is at least the
            smallest one and its interval lies above 0.5.

    Returns:
        `result` (passed or failed), `reason`, `auroc ci_low ci_high n n_patients`, the numbers of answers by status,
        `reader is_vlm question smallest_auroc`.
    """
    ordinals = reading.ordinals[0]
    keep = np.isfinite(ordinals)
    rich, patients = table["rich"].to_numpy(float)[keep], table["patient"].to_numpy()[keep]
    draws = {"replicates": settings["bootstrap"], "confidence": settings["confidence"], "seed": settings["seed"]}
    found = statistics.estimate(statistics.auroc, rich, ordinals[keep], patients, **draws)
    least = settings["smallest_auroc"]
    if found.value is None:
        reason = f"the AUROC is undefined: {found.undefined_reason}"
    elif found.value < least:
        reason = f"the AUROC is below {least:g}"
    elif found.ci_low is None:
        reason = found.undefined_reason
    else:
        reason = "" if found.ci_low > 0.5 else "the interval of the AUROC does not lie above 0.5"
    return {
        "result": FAILED if reason else PASSED, "reason": reason, "auroc": found.value, "ci_low": found.ci_low,
        "ci_high": found.ci_high, "n": found.n, "n_patients": len(np.unique(patients)),
        **{f"n_{status.value}": int(reading.counts[status].sum()) for status in AnswerStatus},
        "reader": reading.reader, "is_vlm": reading.is_vlm, "question": QUESTION.text, "smallest_auroc": least,
    }  # fmt: skip
