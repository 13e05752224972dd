"""`slidestudy init`: a configuration and its tables for a folder of slides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import openslide
import pandas as pd
from rich.console import Console

from slidestudy.cli.template import fill_template
from slidestudy.errors import StudyError
from slidestudy.files import write_text
from slidestudy.tables import write_table

EXTENSIONS = frozenset(
    f".{e}" for e in ("svs", "ndpi", "mrxs", "scn", "bif", "vms", "tif", "tiff", "dcm", "svslide", "vmu")
)
"""Endings of the formats that OpenSlide reads."""
MAX_COHORTS = 10
"""With more subfolders than this, a subfolder is rather a download's than a cohort's (our choice)."""
TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}", re.IGNORECASE)
"""The patient's part of a TCGA barcode, 12 characters."""


@dataclass(frozen=True)
class FoundSlide:
    """A slide of the folder.

    Attributes:
        slide_id: Its id, valid and unique.
        patient_id: The patient, as far as the file name tells.
        cohort: The cohort's name.
        path: The file, absolute.
    """

    slide_id: str
    patient_id: str
    cohort: str
    path: str


def init_study(folder: Path, output: Path, console: Console) -> None:
    """Writes `config.yaml`, `slides.tsv` and `patients.tsv` for a folder of slides.

    Args:
        folder: The slides, with subfolders.
        output: Where to write; made where missing.
        console: Where to say what comes next.

    Raises:
        StudyError: The folder holds no slide, or one of the files is already there; nothing is written then.
    """
    there = [name for name in ("config.yaml", "slides.tsv", "patients.tsv") if (output / name).exists()]
    if there:
        remedy = "choose another folder with --output, or remove them"
        raise StudyError(f"already holds {', '.join(there)}", str(output), remedy)
    paths = find_slides(folder)
    slides = name_slides(paths, assign_cohorts(paths, folder))
    cohorts = list(dict.fromkeys(slide.cohort for slide in slides))
    config = fill_template(_name(folder.resolve().name, set(), dots=False), cohorts, output)
    _write_tables(slides, output)
    # Last, so that a configuration never stands without its tables.
    write_text(output / "config.yaml", config)
    _print_next(output, slides, cohorts, console)


def find_slides(folder: Path) -> list[Path]:
    """Finds the slides of a folder and its subfolders, hidden ones left out, one file of each DICOM series.

    Raises:
        StudyError: There is no such folder, or no slide in it.
    """
    if not folder.is_dir():
        raise StudyError("is not a folder", str(folder), "name the folder that holds the slides")
    root = folder.resolve()
    found, series = [], set()
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file()):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue
        key = _dicom_series(path) if path.suffix.lower() == ".dcm" else None
        if key is None or (path.parent, key) not in series:
            found.append(path)
            series.add((path.parent, key))
    if not found:
        endings = ", ".join(sorted(EXTENSIONS))
        raise StudyError("holds no slide", str(folder), f"slides are files that end in {endings}")
    return found


def _dicom_series(path: Path) -> str | None:
    """The DICOM series that a file belongs to; OpenSlide opens all of it by any one file."""
    try:
        with openslide.OpenSlide(path) as slide:
            return slide.properties.get("dicom.SeriesInstanceUID")
    except openslide.OpenSlideError:
        return None


def _name(text: str, taken: set[str], *, dots: bool = True) -> str:
    """A valid name that is not taken, also where upper and lower case are the same."""
    allowed = r"[^A-Za-z0-9._-]+" if dots else r"[^A-Za-z0-9_-]+"
    base = re.sub(r"^[^A-Za-z0-9]+", "", re.sub(allowed, "_", text)).rstrip("_.") or "unnamed"
    name, number = base, 1
    while name.casefold() in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name.casefold())
    return name


def _patient(path: Path) -> str | None:
    """The patient that a TCGA barcode names."""
    match = TCGA.match(path.name)
    return match[0].upper() if match else None


def assign_cohorts(paths: Sequence[Path], folder: Path) -> list[str]:
    """Names the cohort of each slide: its first-level subfolder, or one cohort for all.

    One cohort is for all where there is one subfolder at most, where there are more than `MAX_COHORTS`, and where a
    patient has slides in several, since a patient belongs to one cohort.
    """
    root = folder.resolve()
    parts = [path.relative_to(root).parts for path in paths]
    folders = [part[0] if len(part) > 1 else "" for part in parts]
    subfolders = sorted(set(folders) - {""})
    homes: dict[str, set[str]] = {}
    for path, home in zip(paths, folders, strict=True):
        homes.setdefault(_patient(path) or str(path), set()).add(home)
    if not 1 < len(set(folders)) <= MAX_COHORTS or any(len(home) > 1 for home in homes.values()):
        return [_name(root.name, set(), dots=False)] * len(paths)
    taken: set[str] = set()
    names = {home: _name(home, taken, dots=False) for home in subfolders}
    names[""] = _name(root.name, taken, dots=False)
    return [names[home] for home in folders]


def name_slides(paths: Iterable[Path], cohorts: Iterable[str]) -> list[FoundSlide]:
    """Gives every slide its ids; a patient has one slide unless TCGA barcodes say otherwise."""
    taken: set[str] = set()
    slides = []
    for path, cohort in zip(paths, cohorts, strict=True):
        slide_id = _name(path.stem, taken)
        slides.append(FoundSlide(slide_id, _patient(path) or slide_id, cohort, str(path)))
    return sorted(slides, key=lambda slide: slide.cohort)


def _write_tables(slides: Sequence[FoundSlide], output: Path) -> None:
    """Writes the two tables; labels and mpp are left blank."""
    rows = [(s.slide_id, s.patient_id, s.cohort, s.path, "") for s in slides]
    write_table(output / "slides.tsv", pd.DataFrame(rows, columns=["slide_id", "patient_id", "cohort", "path", "mpp"]))
    patients = {s.patient_id: (s.patient_id, s.cohort, s.cohort, "") for s in slides}
    columns = ["patient_id", "cohort", "center", "tils"]
    write_table(output / "patients.tsv", pd.DataFrame(patients.values(), columns=columns))


def _print_next(output: Path, slides: Sequence[FoundSlide], cohorts: Sequence[str], console: Console) -> None:
    """Says what was found and what a user does next."""
    console.print(f"Found {len(slides)} slides. Wrote config.yaml, slides.tsv and patients.tsv into {output}.")
    roles = [f"{name} ({'external' if i else 'development'})" for i, name in enumerate(cohorts)]
    console.print(f"Cohorts: {', '.join(roles)}. Change their roles in config.yaml.")
    console.print("Next:")
    console.print(f"  1. slidestudy check {output / 'config.yaml'}")
    console.print("  2. In patients.tsv correct patient_id (also in slides.tsv) and center, and fill in tils.")
    console.print("  3. In config.yaml take the '# ' away from the section models, and later from explanations.")
    console.print(f"  4. snakemake --configfile {output / 'config.yaml'} --cores all")
