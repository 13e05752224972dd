"""Generates the demo study: slides of three cohorts, their tables and the truth about them."""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from slidestudy.demo.cohorts import COHORT_SIZES, PatientPlan, SlidePlan, hazard, plan_study
from slidestudy.demo.gate import generate_gate
from slidestudy.demo.layout import Truth, plan_layout
from slidestudy.demo.scanner import mark_with_pen, scan, write_slide
from slidestudy.demo.tissue import paint_tissue
from slidestudy.errors import StudyError
from slidestudy.files import atomic_path, read_json, write_json

GENERATOR_VERSION = 1
"""Raised whenever equal arguments would give other bytes; older folders are then generated anew."""

KEPT_SHARE = 0.4
"""Share of its bytes that the truncated slide keeps."""

_STEP_UM = 128
"""Fields are multiples of this: a whole number of pixels at every level of both scanners."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to make one slide."""

    plan: SlidePlan
    folder: Path
    seed: int
    field_um: tuple[int, int]


def generate_study(
    folder: Path,
    seed: int = 2024,
    scale: float = 1.0,
    progress: Progress | None = None,
    patients: Mapping[str, int] | None = None,
    workers: int | None = None,
) -> None:
    """Writes the demo study, unless the folder already holds it whole.

    Writes `gate/` (the known patches of the reader's test), `slides/<cohort>/<slide_id>.svs|.tif`, `slides.tsv`,
    `patients.tsv`, `truth.tsv` and, last, `study.json`. Equal arguments give equal bytes for any number of workers.

    Args:
        folder: Where to write; made where missing.
        seed: Non-negative seed of everything random.
        scale: Side of the tissue field relative to about 1.4 x 1.15 mm, above 0 and up to 4.
        progress: Called after each slide with the number done, the number in all and the slide's id.
        patients: Sizes of some or all cohorts, in place of `COHORT_SIZES`; the special slides stay.
        workers: Processes to use; all cores by default, 1 stays in this process.

    Raises:
        StudyError: An argument is outside its range.
    """
    sizes = _checked_sizes(seed, scale, patients)
    recipe = {"version": GENERATOR_VERSION, "seed": seed, "scale": scale, "patients": sizes}
    generate_gate(folder / "gate", seed)
    if _is_complete(folder, recipe):
        return
    # While slides are being replaced the folder must not pass for a finished study.
    (folder / "study.json").unlink(missing_ok=True)
    plans = plan_study(seed, sizes)
    slides = [slide for patient in plans for slide in patient.slides]
    jobs = [_Job(slide, folder, seed, field_size(scale)) for slide in slides]
    truths: dict[str, Truth] = {}
    for slide_id, truth in _made(jobs, workers or os.cpu_count() or 2):
        truths[slide_id] = truth
        if progress is not None:
            progress(len(truths), len(jobs), slide_id)
    _write_tables(folder, plans, truths)
    names = [slide.path for slide in slides] + ["slides.tsv", "patients.tsv", "truth.tsv"]
    sizes_on_disk = {name: (folder / name).stat().st_size for name in names}
    write_json(folder / "study.json", {**recipe, "files": sizes_on_disk})


def field_size(scale: float) -> tuple[int, int]:
    """Width and height of a slide's field in um at a scale; 1.0 is 1408 x 1152 um."""
    return _STEP_UM * max(2, round(11 * scale)), _STEP_UM * max(2, round(9 * scale))


def _checked_sizes(seed: int, scale: float, patients: Mapping[str, int] | None) -> dict[str, int]:
    """The sizes of all cohorts, once every argument has been found in its range."""
    if seed < 0:
        raise StudyError(f"the seed {seed} is negative", "demo study", "give a whole number of 0 or more")
    if not 0 < scale <= 4:
        raise StudyError(f"the scale {scale} is out of range", "demo study", "give a number above 0, up to 4")
    sizes = {**COHORT_SIZES, **(patients or {})}
    known = ", ".join(COHORT_SIZES)
    unknown = ", ".join(sorted(set(sizes) - set(COHORT_SIZES)))
    if unknown:
        raise StudyError(f"there is no cohort {unknown}", "demo study", f"choose from {known}")
    wrong = ", ".join(f"{name} {size}" for name, size in sizes.items() if not 1 <= size <= 99)
    if wrong:
        raise StudyError(f"cohort size out of range: {wrong}", "demo study", "give 1 to 99 patients")
    return sizes


def _is_complete(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether the folder holds this very study with every file at its recorded size."""
    try:
        record = read_json(folder / "study.json")
        files = record.pop("files")
        return record == recipe and all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _made(jobs: Sequence[_Job], workers: int) -> Iterator[tuple[str, Truth]]:
    """Makes all slides and yields id and truth of each as it is done, in no particular order."""
    with _one_opencv_thread():
        if workers == 1:
            yield from map(_make_slide, jobs)
            return
        # Forked workers need no importable main module, so any script may call this; spawn is the fallback.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
            for future in as_completed([pool.submit(_make_slide, job) for job in jobs]):
                yield future.result()


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Holds OpenCV to one thread: slides run in parallel, and its thread pool does not survive a fork."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _make_slide(job: _Job) -> tuple[str, Truth]:
    """Paints, scans and publishes one slide; its randomness depends on the seed and its own id only."""
    plan = job.plan
    rng = np.random.default_rng([job.seed, *plan.slide_id.encode("ascii")])
    layout = plan_layout(rng, job.field_um, plan.til_request, plan.mucinous)
    maps = paint_tissue(rng, layout, plan.scanner.mpp)
    # Every slide takes the stains a little differently, as batches in one laboratory do.
    haematoxylin, eosin = np.clip(rng.normal(1.0, 0.06, 2), 0.85, 1.15)
    image = scan(rng, maps, plan.scanner, (float(haematoxylin), float(eosin)))
    if plan.pen is not None:
        image = mark_with_pen(rng, image, plan.scanner.mpp, plan.pen)
    with atomic_path(job.folder / plan.path) as path:
        write_slide(path, image, plan.scanner, plan.with_mpp)
        if plan.truncated:
            os.truncate(path, int(KEPT_SHARE * path.stat().st_size))
    return plan.slide_id, layout.truth()


def _write_tables(folder: Path, plans: Sequence[PatientPlan], truths: Mapping[str, Truth]) -> None:
    """Writes the three tables; a patient's true TIL level, which sets the hazard, is their slides' mean."""
    slides, patients, truth_rows = [], [], []
    for plan in plans:
        true_tils = sum(truths[slide.slide_id].tils for slide in plan.slides) / len(plan.slides)
        reading = plan.reading(true_tils)
        time, event = plan.outcome(true_tils)
        who = [plan.patient_id, plan.cohort]
        outcome = ["" if reading is None else reading, int(plan.mucinous), f"{time:.2f}", event]
        patients.append([*who, plan.center, plan.age, *outcome])
        for slide in plan.slides:
            mpp = "" if slide.with_mpp else f"{slide.scanner.mpp:g}"
            slides.append([slide.slide_id, *who, slide.path, mpp])
            truth = truths[slide.slide_id]
            shares = f"{truth.mucin_fraction:.5f}", f"{truth.tumour_fraction:.5f}"
            row = [slide.slide_id, *who, f"{truth.tils:.3f}", truth.n_lymphocytes, *shares]
            truth_rows.append([*row, f"{hazard(true_tils):.6f}"])
    _write_table(folder / "slides.tsv", "slide_id patient_id cohort path mpp", slides)
    _write_table(folder / "patients.tsv", "patient_id cohort center age tils mucinous time event", patients)
    columns = "slide_id patient_id cohort true_tils n_lymphocytes mucin_fraction tumour_fraction hazard"
    _write_table(folder / "truth.tsv", columns, truth_rows)


def _write_table(path: Path, columns: str, rows: Iterable[Sequence[object]]) -> None:
    """Publishes a tab-separated table; `columns` are separated by blanks."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns.split())
        writer.writerows(rows)
