"""Which inspected slides enter the study, and the ledger of those that leave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from slidestudy.errors import Reason
from slidestudy.slides.similarity import near_pairs

ADMITTED = ["slide_id", "patient_id", "cohort"]
LOOKALIKES = [*(f"{key}_{side}" for side in "ab" for key in ADMITTED), "bits", "leak"]
LEDGER = ["cohort", "slide_id", "patient_id", "stage", "code", "message"]


def ledger_row(record: dict[str, Any], stage: str) -> dict[str, str]:
    """The ledger's row of a record that was excluded at a stage."""
    reason = record["reason"]
    keys = {key: record[key] for key in ("cohort", "slide_id", "patient_id")}
    return {**keys, "stage": stage, "code": reason["code"], "message": reason["message"]}


@dataclass(frozen=True)
class Admission:
    """Which slides enter the study.

    Attributes:
        admitted: The slides that enter, columns ADMITTED.
        lost: Ledger rows of the others.
        lookalikes: Pairs of slides that look alike, columns LOOKALIKES.
    """

    admitted: pd.DataFrame
    lost: pd.DataFrame
    lookalikes: pd.DataFrame


def admit(records: Iterable[dict[str, Any]], near_duplicates: str = "report", limit: int = 48) -> Admission:
    """Decides which slides enter the study.

    A slide with the same pixels as an earlier one (in the order of the tables) leaves it: a copy in another
    fold or cohort would leak. A slide without a file, whose pixels nobody saw, has no fingerprint and equals no other.
    One that only looks the same is reported, and leaves where that is asked for.

    Args:
        records: Inspection records.
        near_duplicates: What becomes of a slide of another patient or cohort that looks like an earlier one:
            `report` or `exclude`.
        limit: Largest number of bits in which the appearance of such a pair may differ, of 256.
    """
    entering: list[dict[str, Any]] = []
    lost: list[dict[str, str]] = []
    seen: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["status"] == "excluded":
            lost.append(ledger_row(record, "inspection"))
        elif record["fingerprint"] is None:
            entering.append(record)
        elif record["fingerprint"] in seen:
            first = seen[record["fingerprint"]]
            lost.append(_duplicate(record, f"same pixels as slide {first['slide_id']} of cohort {first['cohort']}"))
        else:
            seen[record["fingerprint"]] = record
            entering.append(record)
    pairs = _lookalikes(entering, limit)
    gone: set[int] = set()
    if near_duplicates == "exclude":
        for i, j, bits in pairs:
            if i not in gone and j not in gone and not _same_patient(entering[i], entering[j]):
                gone.add(j)
                first = entering[i]
                what = f"looks like slide {first['slide_id']} of cohort {first['cohort']} ({bits} of 256 bits differ)"
                lost.append(_duplicate(entering[j], what))
    admitted = [{key: r[key] for key in ADMITTED} for i, r in enumerate(entering) if i not in gone]
    return Admission(
        pd.DataFrame(admitted, columns=ADMITTED),
        pd.DataFrame(lost, columns=LEDGER),
        pd.DataFrame([_pair_row(entering[i], entering[j], bits) for i, j, bits in pairs], columns=LOOKALIKES),
    )


def _duplicate(record: dict[str, Any], message: str) -> dict[str, str]:
    return ledger_row({**record, "reason": {"code": str(Reason.DUPLICATE), "message": message}}, "inspection")


def _lookalikes(records: list[dict[str, Any]], limit: int) -> list[tuple[int, int, int]]:
    """Pairs that look alike, of the slides whose pictures are not too even to tell."""
    told = [i for i, record in enumerate(records) if record["appearance"] is not None]
    pairs = near_pairs([records[i]["appearance"] for i in told], limit)
    return [(told[i], told[j], bits) for i, j, bits in pairs]


def _same_patient(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Serial sections of one patient look alike and leak nothing, since a patient is never split."""
    return (a["cohort"], a["patient_id"]) == (b["cohort"], b["patient_id"])


def _pair_row(a: dict[str, Any], b: dict[str, Any], bits: int) -> dict[str, Any]:
    row = {f"{key}_{side}": record[key] for side, record in (("a", a), ("b", b)) for key in ADMITTED}
    return {**row, "bits": bits, "leak": not _same_patient(a, b)}


def complete_ledger(lost: Sequence[dict[str, str]], slides: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """Completes the ledger with the patients who have no slide left.

    Args:
        lost: Ledger rows of the slides lost, at whichever stage.
        slides: All slides of the study, `slide_id patient_id cohort`.
        patients: All patients of the study, `patient_id cohort`.

    Returns:
        The ledger, sorted; a patient's row has a blank slide_id.
    """
    gone = {(row["cohort"], row["slide_id"]) for row in lost if row["code"] != Reason.LABEL_MISSING}
    keys = list(zip(slides["cohort"], slides["slide_id"], strict=True))
    left = set(slides.loc[[key not in gone for key in keys], "patient_id"])
    had = set(slides["patient_id"])
    rows = list(lost)
    for patient, cohort in zip(patients["patient_id"], patients["cohort"], strict=True):
        if patient not in left:
            message = "none of the patient's slides can be used" if patient in had else "the patient has no slide"
            rows.append(
                {
                    "cohort": cohort,
                    "slide_id": "",
                    "patient_id": patient,
                    "stage": "patients",
                    "code": str(Reason.NO_SLIDE),
                    "message": message,
                }
            )
    table = pd.DataFrame(rows, columns=LEDGER)
    return table.sort_values(["cohort", "patient_id", "slide_id", "stage"], ignore_index=True)
