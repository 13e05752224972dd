"""Reading tables and records of a results folder that may not be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.errors import StudyError
from slidestudy.files import read_json
from slidestudy.tables import load_table


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Reads a table of the workflow; no rows where there is none.

    Raises:
        StudyError: A column is missing.
    """
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    table = load_table(path)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise StudyError(f"has no column {', '.join(missing)}", str(path), "remove it; it will be made anew")
    return table


def read_record(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty where there is none."""
    return read_json(path) if path.is_file() else {}
