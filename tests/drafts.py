"""A small study that is in order, to be spoilt by a test and then loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from slidestudy.errors import StudyError
from slidestudy.study import Study, load_study
from slidestudy.yaml_files import load_yaml

TIL: dict[str, Any] = {
    "task": "regression",
    "aggregator": "ectil",
    "encoder": "stain-texture",
    "target": "tils",
    "folds": 3,
}
MUCIN: dict[str, Any] = {**TIL, "task": "classification", "aggregator": "gated-abmil", "target": "mucinous"}


@dataclass
class Draft:
    """A small study that is in order, to be spoilt by a test and then written."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    slides: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)

    @property
    def source(self) -> Path:
        return self.folder / "config.yaml"

    def load(self) -> Study:
        self.source.write_text(yaml.safe_dump(self.config))
        (self.folder / "slides.tsv").write_text("\n".join(self.slides) + "\n")
        (self.folder / "patients.tsv").write_text("\n".join(self.patients) + "\n")
        return load_study(load_yaml(self.source), self.source)

    def message(self) -> str:
        with pytest.raises(StudyError) as caught:
            self.load()
        return str(caught.value)


def small_draft(folder: Path) -> Draft:
    """Four development patients of two centres, one of them with two slides, and one external patient."""
    (folder / "explanation.md").write_text("Lymphocytes raise the score.")
    for name in ("A1", "A1b", "A2", "A3", "A4", "B1"):
        (folder / f"{name}.svs").touch()
    config = {
        "study": "a study",
        "results": str(folder / "results"),
        "slides": "slides.tsv",
        "patients": "patients.tsv",
        "cohorts": {"north": {"role": "development"}, "south": {"role": "external"}},
        "tiles": {"size": 256, "mpp": 0.5},
        "encoders": {"stain-texture": {}},
        "models": {"til": dict(TIL), "mucin": dict(MUCIN)},
        "explanations": {"models": ["til"], "texts": {"short": "explanation.md"}},
    }
    slides = ["slide_id\tpatient_id\tcohort\tpath\tmpp"]
    slides += [f"A{i}\tA{i}\tnorth\tA{i}.svs\t" for i in range(1, 5)]
    slides += ["A1b\tA1\tnorth\tA1b.svs\t0.25", "B1\tB1\tsouth\tB1.svs\t"]
    patients = ["patient_id\tcohort\tcenter\ttils\tmucinous\tage"]
    patients += [f"A{i}\tnorth\tc{i % 2}\t{10 * i}\t{i % 2}\t50" for i in range(1, 5)]
    patients += ["B1\tsouth\ts\t\t0\t"]
    return Draft(folder, config, slides, patients)
