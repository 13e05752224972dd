"""What is lost after admission: at the tissue stage, at the feature stage, and for want of a label."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from slidestudy.errors import Reason
from slidestudy.features.store import read_attributes
from slidestudy.files import read_json
from slidestudy.labels import is_labelled
from slidestudy.slides.admission import ledger_row


def late_losses(
    tissue: Iterable[str | os.PathLike[str]],
    stores: Iterable[str | os.PathLike[str]],
    admitted: pd.DataFrame,
    labels: Mapping[str, pd.DataFrame],
    models: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, str]]:
    """Ledger rows of what is lost after admission.

    Args:
        tissue: Records of the tissue stage.
        stores: Feature stores, of all encoders.
        admitted: The admitted slides.
        labels: Model -> its labels; a slide without one is lost for that model only.
        models: Model -> its `task`, `columns` and `target`; published weights may have no target.
    """
    records = [read_json(path) for path in tissue]
    rows = [ledger_row(record, "tissue") for record in records if record["status"] == "excluded"]
    without_tissue = {record["slide_id"] for record in records if record["status"] == "excluded"}
    for path in stores:
        attributes = read_attributes(path)
        if attributes["status"] == "excluded" and attributes["slide_id"] not in without_tissue:
            rows.append(ledger_row(attributes, f"features:{attributes['encoder']['name']}"))
    for model, table in labels.items():
        if models[model]["target"] is None:
            continue
        labelled = is_labelled(table, models[model]["task"], models[model]["columns"])
        missing = table[~labelled & table["slide_id"].isin(set(admitted["slide_id"]))]
        rows += [
            {
                "cohort": row.cohort,
                "slide_id": row.slide_id,
                "patient_id": row.patient_id,
                "stage": f"labels:{model}",
                "code": str(Reason.LABEL_MISSING),
                "message": "the label is blank; the slide is predicted, but neither trains nor validates this model",
            }
            for row in missing.itertuples()
        ]
    return rows
