"""What the report says of the shift of external cohorts: beside each model's metrics, and in full of each encoder."""

from __future__ import annotations

from typing import Any

from slidestudy.report.collect import Results
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import (
    Cell,
    Column,
    Drawing,
    Table,
    Value,
    estimate_cell,
    first_row,
    interval,
    interval_note,
    is_missing,
    make_table,
    number,
    plural,
)
from slidestudy.report.shift_files import ShiftFiles

NAMES = {
    "frechet": ("Fréchet distance", "squared, in development variances"),
    "nearest_neighbour": ("Distance to nearest tiles", "ratio to development"),
    "ood_share": ("Out of distribution", "share of slides"),
    "scanner_known": ("Known scanner", "share of slides"),
    "vendor_known": ("Known vendor", "share of slides"),
    "objective_known": ("Known objective", "share of slides"),
    "mpp": ("Resolution", "median µm/px"),
    "mpp_difference": ("Resolution", "difference of medians, µm/px"),
    "mpp_outside": ("Resolution outside development's", "share of slides"),
    "smd_brightness": ("Brightness", "difference in SD"),
    "smd_saturation": ("Saturation", "difference in SD"),
    "smd_stain_density": ("Stain density", "difference in SD"),
    "smd_haematoxylin": ("Haematoxylin", "difference in SD"),
    "smd_eosin": ("Eosin", "difference in SD"),
    "smd_focus": ("Focus", "difference in SD"),
    "stain_distance": ("Stain, all measures", "Mahalanobis distance"),
}
"""Measure -> its name and its unit."""
BESIDE = ("frechet", "nearest_neighbour", "ood_share", "scanner_known", "stain_distance")
"""What stands beside a model's metrics; all else stands with the encoder."""
IN_UNITS = ("mpp", "mpp_difference")
"""Measures that are written with three significant digits."""
NO_SHIFT = (
    "“No shift” is what would be found if nothing were shifted; of distances, which cannot be negative, the median and "
    "the range over random splits of the development patients."
)
MOST_SLIDES = 20
"""Slides out of distribution that the page lists; the file has all."""


def shift_beside(name: str, results: Results) -> Table | None:
    """The shift of the external cohorts as a model's encoder sees it, a row for each; None where not measured."""
    encoder = results.settings["models"][name].get("encoder")
    files = results.shifts.get(encoder) if encoder else None
    if files is None or files.measures.empty:
        return None
    columns = [Column("Cohort"), *[Column(*NAMES[measure], numeric=True) for measure in BESIDE]]
    caption = (
        f"{name}: how far the external cohorts lie from development, with the features of {encoder} (all measures "
        f"are in section 3). {NO_SHIFT} "
        f"{interval_note(files.settings, percentile=True)}"
    )
    rows = [[_cohort(files, cohort), *[_cell(files, cohort, m) for m in BESIDE]] for cohort in _cohorts(files)]
    return make_table(caption, columns, rows)


def shift_sections(results: Results) -> list[dict[str, Any]]:
    """One section for each encoder whose features the shift was measured with."""
    return [
        {
            "name": encoder,
            "figure": _figure(encoder, files),
            "measures": _measure_table(encoder, files),
            "slides": _slide_table(encoder, files),
        }
        for encoder, files in results.shifts.items()
        if len(files.measures)
    ]


def _cohorts(files: ShiftFiles) -> list[str]:
    return list(dict.fromkeys(files.measures["cohort"]))


def _cohort(files: ShiftFiles, cohort: str) -> Cell:
    """A cohort with the slides and patients that have features."""
    row = first_row(files.measures, cohort=cohort, measure="frechet")
    note = f"{plural(int(row['n']), 'slide')}, {plural(int(row['n_patients']), 'patient')}" if row else ""
    return Cell(cohort, note)


def _cell(files: ShiftFiles, cohort: str, measure: str) -> Cell:
    """A measure with its interval, what no shift would give, and further words."""
    row = first_row(files.measures, cohort=cohort, measure=measure)
    return estimate_cell(row, _decimals(measure), note=_expected(row, measure))


def _decimals(measure: str) -> str:
    """The metric that a measure is written like."""
    return "mae" if measure in IN_UNITS else "share"


def _expected(row: dict[str, Any] | None, measure: str) -> str:
    """What a measure is where nothing is shifted, unless that is 0 by its nature."""
    if row is None or is_missing(row["value"]):
        return ""
    said = []
    if not is_missing(row["expected_low"]):
        span = interval(float(row["expected"]), float(row["expected_low"]), float(row["expected_high"]), "share")
        said.append(f"no shift: {span}")
    elif not is_missing(row["expected"]) and float(row["expected"]) != 0:
        said.append(f"{'development' if measure == 'mpp' else 'no shift'}: {number(float(row['expected']), 2)}")
    if measure.endswith("_known") and not is_missing(row["detail"]):
        said.append(str(row["detail"]))
    return "; ".join(filter(None, said))


def _figure(encoder: str, files: ShiftFiles) -> Drawing | None:
    """The figure of an encoder's shift."""
    if not files.figure:
        return None
    label = f"{encoder}: stain, distances of slides and Fréchet distances of the external cohorts"
    limit = f"percentile {files.settings['percentile']:g} of" if "percentile" in files.settings else "limit set by"
    caption = (
        f"{label}. Dots with white centres are medians on their quartiles; the dashed line is {limit} the development "
        "slides, whose neighbours are tiles of other patients. Grey bands are random splits of the development "
        f"patients. {interval_note(files.settings, percentile=True)}"
    )
    return Drawing(inline_svg(files.figure, f"shift-{encoder}", label), caption)


def _measure_table(encoder: str, files: ShiftFiles) -> Table:
    """All measures, a row for each, a column for each cohort."""
    cohorts = _cohorts(files)
    heads = [_cohort(files, cohort) for cohort in cohorts]
    rows: list[list[Value]] = [
        [Cell(*words), *[_cell(files, cohort, measure) for cohort in cohorts]]
        for measure, words in NAMES.items()
        if (files.measures["measure"] == measure).any()
    ]
    columns = [Column("Measure"), *[Column(head.text, head.note, numeric=True) for head in heads]]
    caption = (
        f"{encoder}: shift of the external cohorts from the development cohorts. {NO_SHIFT} "
        f"{interval_note(files.settings, percentile=True)}"
    )
    return make_table(caption, columns, rows)


def _slide_table(encoder: str, files: ShiftFiles) -> Table:
    """External slides out of distribution, the farthest first."""
    found = files.slides[(files.slides["role"] == "external") & (files.slides["out_of_distribution"] == "yes")]
    ordered = found.sort_values("distance", ascending=False, kind="stable")
    rows: list[list[Value]] = [
        [row["slide_id"], row["cohort"], number(row["distance"], 2), number(row["percentile"], 1)]
        for row in ordered.head(MOST_SLIDES).to_dict("records")
    ]
    more = f" The first {MOST_SLIDES} of {len(ordered)}." if len(ordered) > MOST_SLIDES else ""
    heads = [Column("Distance", "standardised", numeric=True), Column("Percentile", "of development", numeric=True)]
    caption = f"{encoder}: external slides out of distribution.{more}"
    return make_table(caption, [Column("Slide"), Column("Cohort"), *heads], rows)
