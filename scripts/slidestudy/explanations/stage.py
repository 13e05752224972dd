"""What is made of the answers about all patches of a model, those of the frozen sample and of imported sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from slidestudy.explanations.answering import Answers, read_answers, read_descriptions
from slidestudy.explanations.documents import Explanation
from slidestudy.explanations.gate import NOT_TESTED
from slidestudy.explanations.naming import NOT_LOOKING, SHUFFLED, kind_of
from slidestudy.explanations.pairs import compare_readings, score_statements
from slidestudy.explanations.patches import read_patch_folder
from slidestudy.explanations.reading import Reading, as_reading, not_asked, shuffle_answers
from slidestudy.explanations.scoring import score_all
from slidestudy.explanations.subsets import FROZEN, make_patches
from slidestudy.explanations.wrong import most_wrong
from slidestudy.explanations.x2x import FILE, results_table
from slidestudy.files import write_text


@dataclass(frozen=True)
class Scored:
    """All that is made of the answers about one model.

    Attributes:
        scores: Columns `scoring.SCORES`.
        pairs: Columns `pairs.PAIRS`.
        statements: Columns `pairs.STATEMENTS`.
        most_wrong: Columns `wrong.MOST_WRONG`.
        x2x: `<explanation>/<patches>` -> the answers as X2X writes them.
    """

    scores: pd.DataFrame
    pairs: pd.DataFrame
    statements: pd.DataFrame
    most_wrong: pd.DataFrame
    x2x: Mapping[str, pd.DataFrame]

    def write_x2x(self, folder: Path) -> None:
        """Writes `<explanation>/<patches>/results.csv`, where X2X's own analysis looks for them."""
        folder.mkdir(parents=True)
        for name, table in self.x2x.items():
            write_text(folder / name / FILE, table.to_csv(index=False, lineterminator="\n"))


def score_model(
    folders: Mapping[str, Path],
    names: Sequence[str],
    asked: Sequence[str],
    texts: Mapping[str, Explanation],
    gate: str | None,
    settings: Mapping[str, Any],
) -> Scored:
    """Scores all explanations of a model.

    Args:
        folders: FROZEN or a set's name -> the folder with `patches`, `descriptions.jsonl` and `answers`.
        names: All that is scored.
        asked: What of it the reader was asked about.
        texts: The written explanations.
        gate: What the reader's test said; None where there was none.
        settings: `bootstrap confidence seed smallest unit x1 x3`.
    """
    _, frozen = read_patch_folder(folders[FROZEN] / "patches")
    tables: dict[str, list[pd.DataFrame]] = {"scores": [], "pairs": [], "statements": [], "most_wrong": []}
    x2x = {}
    for name, folder in folders.items():
        table, card = read_patch_folder(folder / "patches")
        patches = make_patches(name, table, card["digest"], frozen, settings)
        given = {explanation: read_answers(folder / "answers" / f"{explanation}.jsonl") for explanation in asked}
        readings = make_readings(names, given, list(table["patch_id"]), settings["seed"])
        readings += _imported(folder / "patches" / "answers", list(table["patch_id"]))
        tables["scores"].append(score_all(readings, patches, settings, gate or NOT_TESTED))
        tables["pairs"].append(compare_readings(readings, patches, settings))
        tables["statements"].append(score_statements(readings, texts, patches, settings))
        tables["most_wrong"].append(most_wrong(readings, patches))
        descriptions = read_descriptions(folder / "descriptions.jsonl")
        for explanation in texts:
            place = f"{explanation}/{name.replace(' ', '-')}"
            x2x[place] = results_table(table, given[explanation].answers, descriptions, patches.threshold)
    return Scored(**{key: _joined(parts) for key, parts in tables.items()}, x2x=x2x)


def make_readings(
    names: Sequence[str], given: Mapping[str, Answers], patch_ids: Sequence[str], seed: int
) -> list[Reading]:
    """The answers behind every name as numbers; shuffled ones are made of those to their text.

    Args:
        names: All that is scored.
        given: What was asked -> its answers.
        patch_ids: The patches.
        seed: Seed of the shufflings.
    """
    found: dict[str, Reading] = {}
    for name in names:
        if kind_of(name) == "shuffled":
            found[name] = shuffle_answers(name, found[name.removesuffix(SHUFFLED)], seed)
        elif name in given:
            found[name] = as_reading(name, given[name].answers, patch_ids, given[name].reader, given[name].is_vlm)
        else:
            found[name] = not_asked(name, len(patch_ids), NOT_LOOKING)
    return list(found.values())


def _imported(folder: Path, patch_ids: Sequence[str]) -> list[Reading]:
    """The answers that came with a set of patches."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        answers = read_answers(path)
        found.append(as_reading(path.stem, answers.answers, patch_ids, answers.reader, answers.is_vlm))
    return found


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables below each other; empty ones would change the types of the others."""
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]
