"""Planning the study's DAG, against Snakemake planning as many jobs of a one-rule workflow."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.benchmarks.timing import seconds
from tests.workflow.small_study import command, environment

pytestmark = pytest.mark.bench
SLIDES = 200
ONE_RULE = """
rule all:
    input: [f"out/{i}.txt" for i in range(%d)]
rule one:
    input: "in/{i}.svs"
    output: "out/{i}.txt"
    shell: "touch {output}"
"""


def write_study(folder: Path, slides: int) -> Path:
    """A study of one external cohort, without models, over empty files."""
    (folder / "slides").mkdir(parents=True)
    for i in range(slides):
        (folder / "slides" / f"{i}.svs").touch()
    rows = [f"s{i}\tp{i}\text\tslides/{i}.svs" for i in range(slides)]
    (folder / "slides.tsv").write_text("\n".join(["slide_id\tpatient_id\tcohort\tpath", *rows]) + "\n")
    rows = [f"p{i}\text\tc1" for i in range(slides)]
    (folder / "patients.tsv").write_text("\n".join(["patient_id\tcohort\tcenter", *rows]) + "\n")
    config = {
        "study": "planning",
        "results": "results",
        "slides": "slides.tsv",
        "patients": "patients.tsv",
        "cohorts": {"ext": {"role": "external"}},
        "tiles": {"size": 256, "mpp": 0.5},
        "encoders": {"stain-texture": {}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def plan(arguments: list[str], folder: Path) -> int:
    """A dry run; returns how many jobs were planned."""
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), cwd=folder, timeout=120)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return int(re.findall(r"^total\s+(\d+)", output, re.MULTILINE)[-1])


def test_planning_against_a_one_rule_workflow(tmp_path, table):
    times, jobs = {}, {}
    for slides in (1, SLIDES):
        home = tmp_path / str(slides)
        planned = command(write_study(home, slides), home, "masks", "-n", "-q", "rules")
        # The first run writes the settings files; later ones, as in a running study, find them.
        jobs[slides] = plan(planned, home)
        times[slides] = seconds(lambda planned=planned, home=home: plan(planned, home), 2)
    assert jobs[SLIDES] - jobs[1] == SLIDES - 1
    reference = tmp_path / "reference"
    (reference / "in").mkdir(parents=True)
    for i in range(SLIDES):
        (reference / "in" / f"{i}.svs").touch()
    (reference / "Snakefile").write_text(ONE_RULE % SLIDES)
    arguments = command(Path("none"), reference, "-n", "-q", "rules")
    at = arguments.index("--configfile")
    arguments = [*arguments[:at], *arguments[at + 2 :]]
    arguments[arguments.index("--snakefile") + 1] = str(reference / "Snakefile")
    plan(arguments, reference)
    plain = seconds(lambda: plan(arguments, reference), 2)
    table.add(f"planning {SLIDES} slides (target masks)", times[SLIDES], plain, f"Snakemake, one rule, {SLIDES} jobs")
    each = (times[SLIDES] - times[1]) / (SLIDES - 1)
    print(f"planning: {1000 * each:.1f} ms per slide over a start of {times[1]:.2f} s")
