"""Which inspected slides enter the study, and the ledger of those that leave it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from slidestudy.errors import Reason

ADMITTED = ["slide_id", "patient_id", "cohort"]
LEDGER = ["cohort", "slide_id", "patient_id", "stage", "code", "message"]


def ledger_row(record: dict[str, Any], stage: str) -> dict[str, str]:
    """The ledger's row of a record that was excluded at a stage."""
    reason = record["reason"]
    keys = {key: record[key] for key in ("cohort", "slide_id", "patient_id")}
    return {**keys, "stage": stage, "code": reason["code"], "message": reason["message"]}


def admit(records: Iterable[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decides which slides enter the study.

    A slide with the same pixels as an earlier one (in the order of the tables) leaves it: a copy in another
    fold or cohort would leak.

    Args:
        records: Inspection records.

    Returns:
        The admitted slides (`slide_id patient_id cohort`) and the ledger rows of the others.
    """
    admitted: list[dict[str, Any]] = []
    lost: list[dict[str, str]] = []
    seen: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["status"] == "excluded":
            lost.append(ledger_row(record, "inspection"))
        elif record["fingerprint"] in seen:
            first = seen[record["fingerprint"]]
            message = f"same pixels as slide {first['slide_id']} of cohort {first['cohort']}"
            copy = {**record, "reason": {"code": str(Reason.DUPLICATE), "message": message}}
            lost.append(ledger_row(copy, "inspection"))
        else:
            seen[record["fingerprint"]] = record
            admitted.append({key: record[key] for key in ADMITTED})
    return pd.DataFrame(admitted, columns=ADMITTED), pd.DataFrame(lost, columns=LEDGER)


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
