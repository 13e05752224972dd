"""Reads what the validation says of a model in groups of slides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from slidestudy.report.feature_files import read_figure
from slidestudy.report.tables import read_table

TESTS = (
    "column", "cohort", "level", "test", "metric", "threshold", "p", "p_holm", "largest_difference", "ci_low",
    "ci_high", "highest", "lowest", "groups", "n", "n_patients", "undefined_reason",
)  # fmt: skip


@dataclass(frozen=True)
class SubgroupFiles:
    """What there is of one model; a table without rows and a blank figure where it is measured in no groups.

    Attributes:
        tests: Whether groups differ, columns TESTS.
        figure: SVG text.
    """

    tests: pd.DataFrame
    figure: str


def read_subgroups(folder: Path, columns: list[str]) -> SubgroupFiles:
    """Reads the files of one model.

    Args:
        folder: `validation/<model>`.
        columns: The columns that make groups now; without any, files of an earlier configuration are not read.

    Raises:
        StudyError: A table is damaged.
    """
    if not columns:
        return SubgroupFiles(pd.DataFrame(columns=list(TESTS)), "")
    tests = read_table(folder / "subgroup_tests.tsv", TESTS)
    return SubgroupFiles(tests[tests["column"].isin(columns)], read_figure(folder / "subgroups.svg"))
