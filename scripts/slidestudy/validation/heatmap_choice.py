"""Which slides get heatmaps: the best and the worst predicted ones, and those on which the models agree least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from slidestudy.labels import class_name, is_survival, label_columns
from slidestudy.validation.views import PROBABILITY

ALL = "all"
"""The setting that draws every slide."""
LEAST = 1e-7
"""Least probability of a class: a logarithm of 0 would compare with nothing."""


def choose_slides(predictions: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Chooses slides of a cohort, with the reasons.

    Of survival no slide has an error of its own, as times may be censored: there the highest and lowest risks stand in
    for worst and best.

    Args:
        predictions: As `models.cohort.predict_cohort` gives them, those slides that can be drawn.
        settings: `task columns`, and `slides`: so many of each kind, or `all`.

    Returns:
        The chosen rows of the table with `why` and `error`, in the order of `slide_id`.
    """
    table = predictions.assign(error=slide_errors(predictions, settings)).sort_values("slide_id", kind="stable")
    if settings["slides"] == ALL:
        return table.assign(why="all slides").reset_index(drop=True)
    why: dict[str, list[str]] = {}
    if is_survival(settings["task"]):
        kinds = [("highest risk", "prediction", False), ("lowest risk", "prediction", True)]
    else:
        kinds = [("best", "error", True), ("worst", "error", False)]
    for word, column, rising in [*kinds, ("most uncertain", "prediction_sd", False)]:
        if column not in table:
            continue
        known = table[table[column].notna()].sort_values(column, ascending=rising, kind="stable")
        for place, slide in enumerate(known["slide_id"].head(int(settings["slides"])), 1):
            why.setdefault(slide, []).append(f"{word} {place}")
    chosen = table[table["slide_id"].isin(list(why))]
    return chosen.assign(why=["; ".join(why[slide]) for slide in chosen["slide_id"]]).reset_index(drop=True)


def slide_errors(predictions: pd.DataFrame, settings: Mapping[str, Any]) -> pd.Series:
    """How wrong the prediction of each slide is; blank without a label, and of survival.

    A number: the absolute difference, of several targets their mean in standard deviations of the labels. A class: the
    logarithmic loss, -log of the probability that the model gave to the label (Good 1952, J R Stat Soc B 14:107).

    Args:
        predictions: The table.
        settings: `task columns`.
    """
    task = settings["task"]
    if is_survival(task) or predictions.empty:
        return pd.Series(np.nan, index=predictions.index)
    if task == "multi-regression":
        columns = label_columns(task, settings["columns"])
        truth = predictions[columns].to_numpy(float)
        gaps = np.abs(predictions[[f"prediction.{column}" for column in columns]].to_numpy(float) - truth)
        spread = pd.DataFrame(truth).std().to_numpy(float)
        scaled = pd.DataFrame(gaps / np.where(spread > 0, spread, np.nan), index=predictions.index)
        return scaled.mean(axis=1)
    if task == "multiclass":
        named = [None if pd.isna(label) else f"{PROBABILITY}{class_name(label)}" for label in predictions["target"]]
        rows = zip(named, predictions.to_dict("records"), strict=True)
        given = [np.nan if name is None else float(row.get(name, 0.0)) for name, row in rows]
        return pd.Series(-np.log(np.maximum(given, LEAST)), index=predictions.index)
    truth, predicted = predictions["target"].astype(float), predictions["prediction"].astype(float)
    if task == "classification":
        given = np.where(truth > 0.5, predicted, 1 - predicted)
        return pd.Series(-np.log(np.maximum(given, LEAST)), index=predictions.index).where(truth.notna())
    return (predicted - truth).abs()
