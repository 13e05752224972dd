"""A small generated study, and running the real workflow over it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from slidestudy.demo.study import generate_study

REPOSITORY = Path(__file__).resolve().parents[2]
COHORTS = {"north": 8, "south": 4, "west": 2}
FOLDS = 3
TRAINING = {"learning_rate": 0.003, "hidden": 32, "attention": 16, "epochs": 30, "dropout": 0.1}


def write_small_study(folder: Path) -> Path:
    """Generates slides and writes a configuration over them; returns the configuration's path."""
    data = folder / "data"
    generate_study(data, seed=7, scale=0.5, patients=COHORTS, workers=2)
    texts = {}
    for name in ("lymphocytes-raise", "tumour-raises"):
        source = REPOSITORY / "config" / "explanations" / f"{name}.md"
        texts[name] = f"{name}.md"
        (folder / texts[name]).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    model = {"encoder": "stain-texture", "folds": FOLDS, "training": TRAINING}
    config = {
        "study": "a small study",
        "results": "results",
        "slides": "data/slides.tsv",
        "patients": "data/patients.tsv",
        "cohorts": {
            "north": {"role": "development"},
            "south": {"role": "external"},
            "west": {"role": "external"},
        },
        "tiles": {"size": 128, "mpp": 0.5},
        "encoders": {"stain-texture": {}},
        "models": {
            "til": {**model, "task": "regression", "aggregator": "ectil", "target": "tils", "cutoffs": [30]},
        },
        "validation": {"bootstrap": 200},
        "explanations": {
            "models": ["til"],
            "texts": texts,
            "sample": {"per_stratum": 8, "max_per_slide": 8, "cohorts": ["north", "south"]},
        },
        "truth": {"table": "data/truth.tsv", "columns": {"til": "true_tils"}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Run:
    """A finished run of the workflow.

    Attributes:
        status: Exit status.
        output: What it printed.
        jobs: Rule name -> wildcards of every job that ran, as printed.
    """

    status: int
    output: str
    jobs: dict[str, list[str]]


def command(config: Path, folder: Path, *arguments: str) -> list[str]:
    """The command that runs the workflow in a folder, with the profile that a user gets."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "2"]
    profile = ["--workflow-profile", str(REPOSITORY / "workflow" / "profiles" / "default")]
    return [*base, *profile, "--configfile", str(config), "--directory", str(folder), *arguments]


def environment() -> dict[str, str]:
    """The environment of a run; threads held down, as jobs already share the cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}


def run(config: Path, folder: Path, *arguments: str) -> Run:
    """Runs the workflow to its end."""
    done = subprocess.run(
        command(config, folder, *arguments), capture_output=True, text=True, env=environment(), cwd=folder, timeout=1800
    )
    output = done.stdout + done.stderr
    return Run(done.returncode, output, jobs_of(output))


def jobs_of(output: str) -> dict[str, list[str]]:
    """The jobs that Snakemake printed, by rule."""
    jobs: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\[[A-Z][a-z]{2} [A-Z][a-z]{2} )|\n\n", output):
        named = re.search(r"^(?:local)?(?:rule|checkpoint) (\w+):$", block, re.MULTILINE)
        if named:
            wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            jobs.setdefault(named[1], []).append(wildcards[1] if wildcards else "")
    return {name: sorted(found) for name, found in sorted(jobs.items()) if name != "all"}


def contents(results: Path) -> dict[str, bytes]:
    """Every result's bytes by name; not logs and timings, which differ between runs."""
    skipped = ("logs/", "benchmarks/")
    files = (f for f in sorted(results.rglob("*")) if f.is_file() and f.name != ".snakemake_timestamp")
    named = {f.relative_to(results).as_posix(): f for f in files}
    return {name: f.read_bytes() for name, f in named.items() if not name.startswith(skipped)}
