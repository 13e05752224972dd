"""The public data sets of survival that lifelines ships, and what R's package `survival` makes of them."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from io import StringIO
from pathlib import Path

import lifelines.datasets
import pandas as pd

FOLDER = Path(lifelines.datasets.__file__).parent
R = Path(__file__).parent / "r"


def lung() -> pd.DataFrame:
    """North Central Cancer Treatment Group: advanced lung cancer, days; status 1 is a death in lifelines' copy."""
    return pd.read_csv(FOLDER / "lung.csv").rename(columns=lambda name: name.replace(".", "_"))


def gbsg2() -> pd.DataFrame:
    """German Breast Cancer Study Group 2: recurrence-free survival, days."""
    return pd.read_csv(FOLDER / "gbsg2.csv").rename(columns={"cens": "status"})


def rossi() -> pd.DataFrame:
    """Rossi's recidivism: weeks until arrest."""
    return pd.read_csv(FOLDER / "rossi.csv").rename(columns={"week": "time", "arrest": "status"})


TABLES = {"lung": lung, "gbsg2": gbsg2, "rossi": rossi}


@cache
def has_r() -> bool:
    """Whether Rscript and R's package `survival` are installed."""
    if shutil.which("Rscript") is None:
        return False
    return subprocess.run(["Rscript", "-e", "library(survival)"], capture_output=True, check=False).returncode == 0


def read_reference(text: str) -> pd.DataFrame:
    """What an R script printed; every column text but `value`."""
    table = pd.read_csv(StringIO(text), sep="\t", dtype=str, keep_default_na=False)
    return table.assign(value=pd.to_numeric(table["value"]))


def stored(name: str) -> pd.DataFrame:
    """The stored output of an R script."""
    return read_reference((R / f"{name}.tsv").read_text(encoding="utf-8"))


def rerun(name: str) -> pd.DataFrame:
    """The output of an R script, run now."""
    command = ["Rscript", str(R / f"{name}.R"), str(FOLDER)]
    return read_reference(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
