"""Patches that a person chose: a folder `<slide>/<x>-<y>-<mpp>/{rgb.jpeg, metadata.json}`, as X2X and we save them.

Facts of X2X (NKI-AI/x2x): `metadata.json` holds `raw_logits`, `probabilities` and `attention_logits`, each
`{label_0: number}` or `{label_0: [number]}`. Other images of a patch are kept beside it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.errors import Problem, StudyError
from slidestudy.explanations.sampling import SAMPLE
from slidestudy.explanations.x2x import read_results, results_files
from slidestudy.files import digest, file_digest, read_json, write_json, write_text
from slidestudy.tables import write_table

PATCH_FOLDER = re.compile(r"(?P<x>-?\d+)-(?P<y>-?\d+)-(?P<mpp>\d+(?:\.\d+)?)")
IMAGE = "rgb.jpeg"
IMPORTED_STRATUM = "imported"


def find_patches(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders of all patches below a folder, in the order of their names."""
    return sorted(
        path.parent for path in Path(folder).rglob("metadata.json") if PATCH_FOLDER.fullmatch(path.parent.name)
    )


def read_patch_set(folder: str | os.PathLike[str], roster: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """The table of a set of patches.

    Args:
        folder: The set.
        roster: Slide id -> patient and cohort. A slide that the study does not know is a patient of its own.

    Returns:
        The columns of `sampling.SAMPLE`, the stratum `imported`, and `folder`, where each patch lies.

    Raises:
        StudyError: There is no patch, or with every patch that lacks its image or its logit.
    """
    found = find_patches(folder)
    if not found:
        remedy = "give a folder with <slide>/<x>-<y>-<mpp>/{rgb.jpeg, metadata.json}"
        raise StudyError("holds no patches", str(folder), remedy)
    rows, problems = [], []
    for path in found:
        try:
            rows.append(_row(path, roster))
        except StudyError as error:
            problems += error.problems
    if problems:
        raise StudyError.of(problems)
    table = pd.DataFrame(rows)
    twice = table["patch_id"].duplicated(keep=False)
    if twice.any():
        places = [
            Problem(str(row.folder), f"the patch {row.patch_id} stands twice") for row in table[twice].itertuples()
        ]
        raise StudyError.of(places)
    return table[[*SAMPLE, "folder"]]


def _row(path: Path, roster: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """One patch."""
    match = PATCH_FOLDER.fullmatch(path.name)
    assert match is not None
    if not (path / IMAGE).is_file():
        raise StudyError(f"the patch has no {IMAGE}", str(path), "save it again, or remove its folder")
    try:
        metadata = read_json(path / "metadata.json")
        logit = _number(metadata["raw_logits"])
    except (ValueError, KeyError, TypeError) as error:
        what = f"metadata.json holds no raw_logits.label_0 ({error!r})"
        raise StudyError(what, str(path), "save the patch again, or remove its folder") from None
    if logit is None:
        raise StudyError("the patch has no logit", str(path), "save the patch again, or remove its folder")
    slide = path.parent.name
    patient, cohort = roster.get(slide, (slide, ""))
    score = _number(metadata.get("probabilities"))
    return {
        "patch_id": f"{slide}/{path.name}", "slide_id": slide, "patient_id": patient, "cohort": cohort,
        "x": int(match["x"]), "y": int(match["y"]), "mpp": float(match["mpp"]), "stratum": IMPORTED_STRATUM,
        "score": 1 / (1 + np.exp(-logit)) if score is None else score, "logit": logit,
        "attention_logit": _number(metadata.get("attention_logits")), "folder": path,
    }  # fmt: skip


def _number(values: Any) -> float | None:
    """`{label_0: number}`, where X2X may write a list of one number; None where there is none."""
    value = None if values is None else values["label_0"]
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return None if value is None else float(value)


def import_patches(target: Path, folder: str | os.PathLike[str], roster: Mapping[str, tuple[str, str]]) -> None:
    """Copies a set of patches into a folder like that of the frozen sample, with the answers of its `results.csv`.

    Args:
        target: The folder to make.
        folder: The set.
        roster: Slide id -> patient and cohort.
    """
    table = read_patch_set(folder, roster)
    target.mkdir(parents=True)
    images = []
    for row in table.itertuples():
        place = target / str(row.patch_id)
        place.parent.mkdir(exist_ok=True)
        shutil.copytree(str(row.folder), place)
        images.append(file_digest(place / IMAGE))
    sample = table.drop(columns="folder")
    write_table(target / "sample.tsv", sample)
    key = [[row.patch_id, repr(row.logit), image] for row, image in zip(sample.itertuples(), images, strict=True)]
    write_json(target / "sample.json", {"digest": digest(key), "patches": len(sample), "imported": True})
    for name, path in results_files(folder).items():
        write_text(target / "answers" / f"{name}.jsonl", read_results(path, list(sample["patch_id"])))
