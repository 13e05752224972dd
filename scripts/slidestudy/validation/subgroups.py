"""A model in groups of slides: its metrics in each, and whether they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from slidestudy.grouping import UNKNOWN, in_order
from slidestudy.labels import class_name
from slidestudy.statistics import Estimate
from slidestudy.validation.agreement import mean_difference
from slidestudy.validation.cohort_levels import Pairs
from slidestudy.validation.measuring import Measured
from slidestudy.validation.metrics import COLUMNS, MAIN_METRIC, draws_of, main_metric, measure_level, rows_of
from slidestudy.validation.subgroup_tests import MEAN_DIFFERENCE, OF_ONE_NUMBER, TESTS, correct, group_tests
from slidestudy.validation.views import View, by_level

SUBGROUPS = ["column", "group", *COLUMNS]
WHOLE = {"column": "cohort", "group": "all"}
"""The row of a whole cohort, beside which its groups stand; no groups are made by cohort."""


def complete_groups(
    groups: pd.DataFrame, records: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Adds the groups that no table has but the slides' files.

    Args:
        groups: `slide_id cohort column group` of the tables' columns.
        records: Inspection records, with `slide_id cohort` and what the file says.
        settings: `subgroups`: of each column `column edges smallest`.

    Returns:
        The same with the columns that were missing.
    """
    known = set(groups["column"])
    rows = [
        [record["slide_id"], record["cohort"], options["column"], class_name(record.get(options["column"])) or UNKNOWN]
        for options in settings["subgroups"]
        if options["column"] not in known
        for record in records
    ]
    return pd.concat([groups, pd.DataFrame(rows, columns=["slide_id", "cohort", "column", "group"])], ignore_index=True)


def measure_subgroups(
    predictions: Mapping[str, pd.DataFrame],
    roles: Mapping[str, str],
    groups: pd.DataFrame,
    settings: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measures a model in each group of each cohort, and tests whether the groups of a cohort differ.

    Args:
        predictions: Cohort -> predictions, as `models.cohort.predict_cohort` gives them.
        roles: Cohort -> `development` or `external`.
        groups: `slide_id column group` of all slides.
        settings: `task columns cutoffs cutoff_rule bootstrap confidence interval seed` and `subgroups`: of each column
            `column edges smallest`.

    Returns:
        The columns of SUBGROUPS, of each cohort the headline metric of all slides first, and of TESTS; values blank
        where undefined, with the reason.
    """
    rows = [
        {**WHOLE, "cohort": cohort, "role": role, "level": level, **_main_row(views, settings)}
        for cohort, role in roles.items()
        for level, views in by_level(predictions[cohort], settings).items()
    ]
    tests: list[dict[str, Any]] = []
    for options in settings["subgroups"]:
        column, smallest = options["column"], options["smallest"]
        group_of = groups[groups["column"] == column].set_index("slide_id")["group"]
        for cohort, role in roles.items():
            table = predictions[cohort]
            named = table["slide_id"].map(group_of).fillna(UNKNOWN).astype(str)
            found = {name: by_level(table[named == name], settings) for name in in_order(named, options["edges"])}
            for level in ("slide", "patient"):
                of_level = {name: levels[level] for name, levels in found.items()}
                keys = {"column": column, "cohort": cohort, "role": role, "level": level}
                for name, views in of_level.items():
                    rows += [{**keys, "group": name, **row} for row in _group_rows(views, smallest, settings)]
                kept = {name: views for name, views in of_level.items() if name != UNKNOWN and _size(views) >= smallest}
                tests += [{**keys, **row} for row in group_tests(kept, level, smallest, settings)]
    counts = dict.fromkeys(("n_positive", "n_targets"), "Int64")
    found_tests = pd.DataFrame(tests, columns=[name for name in TESTS if name != "p_holm"])
    return pd.DataFrame(rows, columns=SUBGROUPS).astype(counts), correct(found_tests)


def _size(found: Sequence[View]) -> int:
    """The patients of a group that have a label."""
    return int(rows_of(found)["patient_id"].nunique())


def _main_row(found: Sequence[View], settings: dict[str, Any]) -> dict[str, Any]:
    """The headline metric of a whole cohort."""
    return main_metric(found, draws_of(found, settings), settings).row()


def _group_rows(found: Sequence[View], smallest: int, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The metrics of a group, or the headline's row that says why there are none."""
    if (patients := _size(found)) < smallest:
        nothing = Estimate(None, None, None, len(rows_of(found)), f"fewer than {smallest} patients")
        yield Measured(MAIN_METRIC[settings["task"]], nothing, patients).row()
        return
    yield from (measured.row() for measured in measure_level(found, settings))
    if settings["task"] in OF_ONE_NUMBER:
        pairs = Pairs.of(found[0], draws_of(found, settings))
        yield Measured(MEAN_DIFFERENCE, pairs.measure(mean_difference, settings["confidence"]), patients).row()
