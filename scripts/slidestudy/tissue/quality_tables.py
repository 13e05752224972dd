"""Tables of what became of the slides that stay: their quality, and all that someone should look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from slidestudy.errors import Reason

Record = Mapping[str, Any]
KEYS = ["cohort", "slide_id", "patient_id"]
WARNINGS = [*KEYS, "stage", "code", "message"]
MEASURES = [
    "brightness", "background", "saturation", "stain_density", "haematoxylin", "eosin", "pen_fraction", "focus",
    "blurred_fraction",
]  # fmt: skip
QUALITY = [
    *KEYS, "vendor", "scanner", "scan_date", "objective", "mpp", "mpp_source", "width", "height", "reader", "icc",
    "mask_method", "tissue_mm2", "pen_mm2", "sections", *MEASURES,
]  # fmt: skip


def quality_table(inspections: Iterable[Record], tissues: Iterable[Record]) -> pd.DataFrame:
    """The quality of every slide that passed inspection, columns QUALITY; blank where not measured.

    Args:
        inspections: Inspection records.
        tissues: Records of the tissue stage.
    """
    found = {(t["cohort"], t["slide_id"]): t for t in tissues}
    rows = []
    for record in inspections:
        tissue = found.get((record["cohort"], record["slide_id"]), {})
        measured = tissue.get("quality") or {}
        # A slide without a file has neither a reader nor, unless the table says it, a resolution.
        mpp, reader = record["mpp"] or {}, record["reader"] or {}
        kept = {key: record[key] for key in (*KEYS, "vendor", "scanner", "scan_date", "objective", "width", "height")}
        rows.append({
            **kept,
            "mpp": mpp.get("value"),
            "mpp_source": mpp.get("source"),
            "reader": reader.get("kind"),
            "icc": record["icc"],
            "mask_method": tissue.get("method"),
            **{key: tissue.get(key) for key in ("tissue_mm2", "pen_mm2", "sections")},
            **{key: measured.get(key) for key in MEASURES},
        })  # fmt: skip
    return pd.DataFrame(rows, columns=QUALITY).sort_values(KEYS, ignore_index=True)


def warning_table(inspections: Iterable[Record], tissues: Iterable[Record], lookalikes: pd.DataFrame) -> pd.DataFrame:
    """Everything about slides of the study that someone should look at, columns WARNINGS.

    Args:
        inspections: Inspection records of the slides that passed.
        tissues: Records of the tissue stage.
        lookalikes: Pairs of slides that look alike; those of one patient are no warning.
    """
    rows = [
        {**{key: record[key] for key in KEYS}, "stage": stage, **warning}
        for stage, records in (("inspection", inspections), ("tissue", tissues))
        for record in records
        for warning in record.get("warnings") or []
    ]
    for pair in lookalikes[lookalikes["leak"].astype(bool)].to_dict("records"):
        other = f"slide {pair['slide_id_a']} of patient {pair['patient_id_a']}, cohort {pair['cohort_a']}"
        message = f"looks like {other} ({pair['bits']} of 256 bits differ): a copy would leak between patients"
        row = {key: pair[f"{key}_b"] for key in KEYS}
        rows.append({**row, "stage": "inspection", "code": str(Reason.NEAR_DUPLICATE), "message": message})
    return pd.DataFrame(rows, columns=WARNINGS).sort_values([*KEYS, "stage", "code"], ignore_index=True)
