"""Who is in the demo study: cohorts, centres, patients and the slides that go wrong on purpose.

Everything random about patients is drawn here, from one generator, in a fixed order, before a slide is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slidestudy.demo.scanner import SCANNER_A, SCANNER_B, Pen, Scanner

COHORT_SIZES: Mapping[str, int] = {"north": 32, "south": 14, "west": 14}
"""Patients per cohort; `west` has one more, whose only slide is truncated."""

NORTH_CENTERS = 4
MUCINOUS_SHARE = 0.4
READING_SD = 7.0
"""Standard deviation of a pathologist's reading about the truth, TIL percentage points."""

BASE_HAZARD = 0.22
"""Events per year at a true TIL level of zero."""

HAZARD_RATIO_PER_10 = 0.85
FOLLOW_UP_YEARS = 10.0

_PENS = {
    ("north", 0.15): Pen.BLUE,
    ("north", 0.6): Pen.GREEN,
    ("south", 0.5): Pen.BLACK,
    ("west", 0.4): Pen.RED,
}
_TWO_SLIDES = ("north", 0.8)
_NO_MPP = ("south", 0.75)
_BLANK_TILS = (("north", 0.45), ("south", 0.2))


@dataclass(frozen=True)
class SlidePlan:
    """One slide to make.

    Attributes:
        slide_id: Unique in the study.
        patient_id: Whose tissue it shows.
        cohort: Cohort name.
        scanner: What scans it.
        til_request: Stromal TIL percentage asked for.
        mucinous: Whether it shows mucin pools.
        pen: Ink on the glass, None where clean.
        with_mpp: Whether the file says its mpp.
        truncated: Whether the file is cut short.
    """

    slide_id: str
    patient_id: str
    cohort: str
    scanner: Scanner
    til_request: float
    mucinous: bool
    pen: Pen | None = None
    with_mpp: bool = True
    truncated: bool = False

    @property
    def path(self) -> str:
        """Path relative to the study's folder, with forward slashes."""
        return f"slides/{self.cohort}/{self.slide_id}{self.scanner.format.value}"


@dataclass(frozen=True)
class PatientPlan:
    """One patient and every random draw that belongs to them.

    Attributes:
        patient_id: Unique in the study.
        cohort: Cohort name.
        center: Centre name.
        age: Years.
        mucinous: Histology.
        slides: One or two slides.
        reading_error: Error of the pathologist's reading, TIL percentage points.
        tils_blank: Whether the reading is missing.
        event_draw: Unit exponential; divided by the hazard it is the time to the event in years.
        censored_at: Years of follow-up.
    """

    patient_id: str
    cohort: str
    center: str
    age: int
    mucinous: bool
    slides: tuple[SlidePlan, ...]
    reading_error: float
    tils_blank: bool
    event_draw: float
    censored_at: float

    def reading(self, true_tils: float) -> int | None:
        """What the pathologist writes down: a multiple of 5 within 0-100, None where missing."""
        if self.tils_blank:
            return None
        return int(np.clip(5 * round((true_tils + self.reading_error) / 5), 0, 100))

    def outcome(self, true_tils: float) -> tuple[float, int]:
        """Time in years (two decimals, at least 0.01) and event (0 or 1) at a true TIL level."""
        until_event = self.event_draw / hazard(true_tils)
        time = min(until_event, self.censored_at)
        return max(round(time, 2), 0.01), int(until_event <= self.censored_at)


def hazard(true_tils: float) -> float:
    """Events per year at a true stromal TIL percentage (0-100)."""
    return BASE_HAZARD * HAZARD_RATIO_PER_10 ** (true_tils / 10.0)


def plan_study(seed: int, sizes: Mapping[str, int]) -> list[PatientPlan]:
    """Draws all patients.

    Args:
        seed: Non-negative seed of the study.
        sizes: Patients per cohort, for every name in `COHORT_SIZES`, each at least 1. In cohorts of fewer
            than about five patients, special slides may fall on the same patient.

    Returns:
        The patients in order of cohort and number; the last of `west`, beyond its size, has the
        truncated slide.
    """
    rng = np.random.default_rng(seed)
    plans: list[PatientPlan] = []
    for cohort in COHORT_SIZES:
        plans.extend(_plan_cohort(rng, cohort, sizes[cohort]))
    return plans


def _plan_cohort(rng: np.random.Generator, cohort: str, size: int) -> list[PatientPlan]:
    """Draws one cohort; `size` does not count the patient of the truncated slide."""
    count = size + (cohort == "west")
    # One TIL level from each of `count` equal slices, so that even a small cohort spreads over the range.
    levels = (rng.permutation(count) + rng.random(count)) / count
    requests = 1.5 + 88.0 * levels**1.3
    mucinous = rng.permutation(count) < round(MUCINOUS_SHARE * count)
    ages = np.clip(rng.normal(61.0, 11.0, count).round(), 28, 92).astype(int)
    errors = rng.normal(0.0, READING_SD, count)
    draws = rng.exponential(1.0, count)
    censored = np.minimum(rng.uniform(2.0, 18.0, count), FOLLOW_UP_YEARS)
    plans = []
    for index in range(count):
        patient_id = f"{cohort[0].upper()}{index + 1:02d}"
        request, mucin = float(requests[index]), bool(mucinous[index])
        plans.append(
            PatientPlan(
                patient_id=patient_id,
                cohort=cohort,
                center=_center(cohort, index, size),
                age=int(ages[index]),
                mucinous=mucin,
                slides=_slides(patient_id, cohort, index, size, request, mucin),
                reading_error=float(errors[index]),
                tils_blank=any(_is_at(place, cohort, index, size) for place in _BLANK_TILS),
                event_draw=float(draws[index]),
                censored_at=float(censored[index]),
            )
        )
    return plans


def _slides(
    patient_id: str, cohort: str, index: int, size: int, request: float, mucinous: bool
) -> tuple[SlidePlan, ...]:
    """The slides of patient number `index` of a cohort."""
    # North alternates scanners within every centre, so that scanner and centre are not confounded there.
    fixed = {"south": SCANNER_B, "west": SCANNER_A}
    first = fixed.get(cohort, (SCANNER_A, SCANNER_B)[index % 2])
    pens = [pen for place, pen in _PENS.items() if _is_at(place, cohort, index, size)]
    slide = SlidePlan(
        slide_id=f"{patient_id}-1",
        patient_id=patient_id,
        cohort=cohort,
        scanner=first,
        til_request=request,
        mucinous=mucinous,
        pen=pens[0] if pens else None,
        with_mpp=not _is_at(_NO_MPP, cohort, index, size),
        truncated=cohort == "west" and index == size,
    )
    if not _is_at(_TWO_SLIDES, cohort, index, size):
        return (slide,)
    other = SCANNER_B if first is SCANNER_A else SCANNER_A
    return (slide, SlidePlan(f"{patient_id}-2", patient_id, cohort, other, request, mucinous))


def _is_at(place: tuple[str, float], cohort: str, index: int, size: int) -> bool:
    """Whether patient `index` stands at a place given as a cohort and a share of its size."""
    return cohort == place[0] and index == int(place[1] * size)


def _center(cohort: str, index: int, size: int) -> str:
    """Centre of patient `index`: equal blocks of `north`, one centre for each other cohort."""
    if cohort == "north":
        return f"c{1 + index * NORTH_CENTERS // size}"
    return {"south": "c5", "west": "c6"}[cohort]
