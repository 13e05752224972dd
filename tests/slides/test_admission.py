"""Which slides enter the study, and the ledger of slides and patients that leave it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from slidestudy.slides.admission import ADMITTED, LEDGER, LOOKALIKES, admit, complete_ledger, ledger_row


def record(
    slide: str, patient: str = "p1", cohort: str = "a", print_: str = "", code: str = "", look: str | None = None
) -> dict[str, Any]:
    """An inspection record, excluded where a code is given."""
    common = {"slide_id": slide, "patient_id": patient, "cohort": cohort, "path": f"/x/{slide}.svs"}
    if code:
        return {**common, "status": "excluded", "reason": {"code": code, "message": f"is {code}"}}
    return {**common, "status": "admitted", "reason": None, "fingerprint": print_ or slide, "appearance": look}


def admitted_and_lost(records: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = admit(records)
    return found.admitted, found.lost


def lost(slide: str, patient: str, cohort: str, code: str, stage: str = "inspection") -> dict[str, str]:
    reason = {"code": code, "message": f"is {code}"}
    return ledger_row({"slide_id": slide, "patient_id": patient, "cohort": cohort, "reason": reason}, stage)


def test_sound_slides_enter_in_the_order_of_the_tables() -> None:
    admitted, ledger = admitted_and_lost([record("s2"), record("s1", "p2"), record("s3", cohort="b")])
    assert admitted.to_dict("list") == {
        "slide_id": ["s2", "s1", "s3"],
        "patient_id": ["p1", "p2", "p1"],
        "cohort": ["a", "a", "b"],
    }
    assert ledger.empty


def test_slides_without_a_file_are_no_copies_of_each_other() -> None:
    unseen = [{**record(slide, patient), "fingerprint": None} for slide, patient in (("s1", "p1"), ("s2", "p2"))]
    admission = admit([record("s0"), *unseen], "exclude")
    assert admission.admitted["slide_id"].tolist() == ["s0", "s1", "s2"]
    assert admission.lost.empty
    assert admission.lookalikes.empty


def test_tables_without_a_row_keep_their_columns() -> None:
    admitted, ledger = admitted_and_lost([])
    assert list(admitted.columns) == ADMITTED
    assert list(ledger.columns) == LEDGER


def test_an_excluded_slide_leaves_with_its_reason() -> None:
    admitted, ledger = admitted_and_lost([record("s1", code="truncated"), record("s2")])
    assert admitted["slide_id"].tolist() == ["s2"]
    (row,) = ledger.to_dict("records")
    assert row == {
        "cohort": "a",
        "slide_id": "s1",
        "patient_id": "p1",
        "stage": "inspection",
        "code": "truncated",
        "message": "is truncated",
    }


def test_a_copy_in_another_cohort_leaves_as_a_duplicate_of_the_first() -> None:
    admitted, ledger = admitted_and_lost(
        [record("s1", print_="x"), record("s2", "p2", "b", print_="x"), record("s3", "p3", print_="x")]
    )
    assert admitted["slide_id"].tolist() == ["s1"]
    assert ledger["slide_id"].tolist() == ["s2", "s3"]
    assert set(ledger["code"]) == {"duplicate"}
    assert all("slide s1 of cohort a" in message for message in ledger["message"])


def test_a_copy_of_an_excluded_slide_may_enter() -> None:
    admitted, _ = admitted_and_lost(
        [{**record("s1", code="mpp_missing"), "fingerprint": "x"}, record("s2", print_="x")]
    )
    assert admitted["slide_id"].tolist() == ["s2"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["", "", "truncated"]))))
def test_every_slide_is_admitted_or_lost_and_no_pixels_enter_twice(drawn: list[tuple[str, str, str]]) -> None:
    records = [record(f"s{i}", cohort=c, print_=p, code=code) for i, (c, p, code) in enumerate(drawn)]
    admitted, ledger = admitted_and_lost(records)
    assert sorted([*admitted["slide_id"], *ledger["slide_id"]]) == sorted(r["slide_id"] for r in records)
    prints = [r["fingerprint"] for r in records if r["slide_id"] in set(admitted["slide_id"])]
    assert len(prints) == len(set(prints)) == len({r["fingerprint"] for r in records if r["status"] == "admitted"})


# Slides that look alike


def look(*flipped: int) -> str:
    """An appearance, with some bits flipped."""
    bits = np.random.default_rng(0).integers(0, 2, 256)
    bits[list(flipped)] ^= 1
    return np.packbits(bits).tobytes().hex()


def test_slides_of_other_patients_that_look_alike_are_reported_and_stay() -> None:
    records = [record("s1", look=look()), record("s2", "p2", "b", look=look(*range(30)))]
    found = admit(records, limit=30)
    assert len(found.admitted) == 2
    assert found.lost.empty
    (pair,) = found.lookalikes.to_dict("records")
    assert (pair["slide_id_a"], pair["slide_id_b"], pair["cohort_b"]) == ("s1", "s2", "b")
    assert (pair["bits"], pair["leak"]) == (30, True)
    assert admit(records, limit=29).lookalikes.empty


def test_slides_of_one_patient_may_look_alike() -> None:
    found = admit([record("s1", look=look()), record("s2", look=look())], "exclude")
    assert len(found.admitted) == 2
    assert found.lookalikes["leak"].tolist() == [False]


def test_the_later_lookalike_leaves_where_that_is_asked_for() -> None:
    records = [record(f"s{i}", f"p{i}", look=look(*range(i))) for i in range(3)]
    found = admit(records, "exclude")
    assert found.admitted["slide_id"].tolist() == ["s0"]
    assert found.lost["code"].tolist() == ["duplicate", "duplicate"]
    assert all("looks like slide s0 of cohort a" in message for message in found.lost["message"])
    assert len(found.lookalikes) == 3


def test_slides_too_even_to_tell_look_like_no_other() -> None:
    found = admit([record("s1"), record("s2", "p2")], "exclude", limit=256)
    assert len(found.admitted) == 2
    assert found.lookalikes.empty
    assert list(found.lookalikes.columns) == LOOKALIKES


SLIDES = pd.DataFrame(
    [("s1", "p1", "a"), ("s2", "p1", "a"), ("s3", "p2", "a"), ("s4", "p3", "b")],
    columns=["slide_id", "patient_id", "cohort"],
)
PATIENTS = pd.DataFrame(
    [("p1", "a"), ("p2", "a"), ("p3", "b"), ("p4", "b")],
    columns=["patient_id", "cohort"],
)


def patients_lost(ledger: pd.DataFrame) -> dict[str, str]:
    rows = ledger[ledger["code"] == "no_slide"]
    assert (rows["slide_id"] == "").all()
    assert (rows["stage"] == "patients").all()
    return dict(zip(rows["patient_id"], rows["message"], strict=True))


def test_a_patient_without_any_slide_is_lost_from_the_start() -> None:
    assert patients_lost(complete_ledger([], SLIDES, PATIENTS)) == {"p4": "the patient has no slide"}


def test_a_patient_is_lost_with_the_last_slide_only() -> None:
    one_of_two = [lost("s1", "p1", "a", "truncated")]
    assert set(patients_lost(complete_ledger(one_of_two, SLIDES, PATIENTS))) == {"p4"}
    both = [*one_of_two, lost("s2", "p1", "a", "no_tissue", "tissue")]
    gone = patients_lost(complete_ledger(both, SLIDES, PATIENTS))
    assert gone["p1"] == "none of the patient's slides can be used"
    assert set(gone) == {"p1", "p4"}


def test_a_missing_label_loses_no_patient() -> None:
    unlabelled = [lost("s3", "p2", "a", "label_missing", "labels:til")]
    ledger = complete_ledger(unlabelled, SLIDES, PATIENTS)
    assert set(patients_lost(ledger)) == {"p4"}
    assert "label_missing" in set(ledger["code"])


def test_the_ledger_is_sorted_whatever_the_order_of_the_losses() -> None:
    losses = [
        lost("s4", "p3", "b", "no_tissue", "tissue"),
        lost("s3", "p2", "a", "too_few_tiles", "features:x"),
        lost("s2", "p1", "a", "truncated"),
        lost("s1", "p1", "a", "label_missing", "labels:til"),
    ]
    ledger = complete_ledger(losses, SLIDES, PATIENTS)
    pd.testing.assert_frame_equal(ledger, complete_ledger(losses[::-1], SLIDES, PATIENTS))
    assert list(zip(ledger["cohort"], ledger["patient_id"], ledger["slide_id"], strict=True)) == [
        ("a", "p1", "s1"),
        ("a", "p1", "s2"),
        ("a", "p2", ""),
        ("a", "p2", "s3"),
        ("b", "p3", ""),
        ("b", "p3", "s4"),
        ("b", "p4", ""),
    ]
    assert list(ledger.columns) == LEDGER


def test_a_ledger_without_losses_keeps_its_columns() -> None:
    ledger = complete_ledger([], SLIDES, PATIENTS[:3])
    assert ledger.empty
    assert list(ledger.columns) == LEDGER
