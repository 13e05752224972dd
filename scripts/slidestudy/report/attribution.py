"""What the report says of where in the patches a model's score comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slidestudy.attribution_kinds import TARGETS
from slidestudy.explanations.attribution.summary import MEASURES
from slidestudy.report.collect import ExplanationFiles
from slidestudy.report.inline import data_uri
from slidestudy.report.layout import (
    Cell,
    Column,
    Picture,
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
    spread_evenly,
)

SHOWN = 6
"""Patches that are shown, from the highest to the lowest logit."""
SIDE = 180
"""Longer side of a picture, px."""
METHODS = {"gradcam": "Grad-CAM", "occlusion": "Occlusion"}
NAMES = {"output": "output", "attention": "attention", "attention_x_score": "attention × score"}


@dataclass(frozen=True)
class Attributed:
    """The attribution of one model's patches.

    Attributes:
        note: How the maps were made.
        pictures: Each patch, and beside it its map of the output.
        table: How faithful the maps are.
    """

    note: str
    pictures: list[Picture]
    table: Table


def attributed(name: str, files: ExplanationFiles) -> Attributed | None:
    """The attribution of a model's patches, or None where there is none."""
    found = files.attribution
    if not found.card:
        return None
    method = str(found.card["method"])
    note = (
        f"{METHODS[method]} ({found.card['place']}) of {plural(int(found.card['patches']), 'patch', 'patches')}: red "
        "is where the output comes from, blue is where nothing raises it. Each map is scaled to its own highest value."
    )
    return Attributed(note, _pictures(files, method), _faithfulness_table(name, files, method))


def _pictures(files: ExplanationFiles, method: str) -> list[Picture]:
    """Patches from the highest to the lowest logit, each with its map."""
    found = files.attribution
    rows = found.patches.sort_values(["logit", "patch_id"], ascending=[False, True], ignore_index=True)
    pictures = []
    for row in rows.iloc[spread_evenly(len(rows), SHOWN)].to_dict("records"):
        patch, logit = str(row["patch_id"]), number(float(row["logit"]), 2)
        bare = files.patches / patch / "rgb.jpeg"
        laid = found.folder / patch / f"{method}_output.jpeg"
        if not (bare.is_file() and laid.is_file()):
            continue
        said = f"Patch {patch} with logit {logit}"
        pictures.append(Picture(data_uri(bare, SIDE), said, f"logit {logit}", (patch,)))
        pictures.append(Picture(data_uri(laid, SIDE), f"{said}, map of its output", "output", (patch,)))
    return pictures


def _faithfulness_table(name: str, files: ExplanationFiles, method: str) -> Table:
    """Each measure of each map, and its difference from random maps."""
    table = files.attribution.faithfulness
    rows: list[Sequence[Value]] = []
    for target in TARGETS:
        for measure in MEASURES:
            row = first_row(table, map=f"{method}_{target}", measure=measure)
            if row is None:
                continue
            told = {**row, "ci_low": row["difference_ci_low"], "ci_high": row["difference_ci_high"]}
            p = "" if is_missing(row["p_holm"]) else _p_value(float(row["p_holm"]))
            n = f"{plural(int(row['n']), 'patch', 'patches')}, {plural(int(row['n_patients']), 'patient')}"
            # Insertion and deletion are in the unit of the target; infidelity is a share.
            unit = "infidelity" if measure == "infidelity" else "mae"
            chance = None if is_missing(row["random_value"]) else interval(float(row["random_value"]), None, None, unit)
            better = "higher" if measure == "insertion" else "lower"
            cells = [estimate_cell(row, unit, note=n), chance, estimate_cell(told, unit, "difference", note=p)]
            rows.append([NAMES[target], Cell(measure, f"{better} is better"), *cells])
    caption = (
        f"{name}: faithfulness of the maps. Insertion and deletion: mean of the target, in its unit, as pixels come "
        "into the blurred patch or go from the patch in the order of the map. Infidelity: 0 where the map foretells "
        "what random squares are worth, 1 where it says nothing. Differences are paired with random maps of the same "
        "grid on the same patches (infidelity: the map with its cells shuffled); p-values are corrected by Holm’s "
        "method. "
        f"{interval_note(files.intervals, percentile=True)}"
    )
    ends = [Column(title, numeric=True) for title in ("Value", "Random map", "Difference")]
    return make_table(caption, ["Map of", "Measure", *ends], rows)


def _p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
