"""All tables of a model from its folders: the frozen sample and a set of patches that a person chose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.explanations.made_answers import CARD, SETTINGS, A, an_answer, make_sample, truthful

from slidestudy.explanations.documents import parse_explanation
from slidestudy.explanations.naming import NOT_LOOKING
from slidestudy.explanations.stage import Scored, score_model
from slidestudy.explanations.subsets import FROZEN
from slidestudy.files import write_json, write_text
from slidestudy.tables import load_table, write_table

NAMES = ["mine", "mine.inverted", "mine.shuffled", "control.empty", "control.image-only", "mine.without-1"]
ASKED = ["mine", "mine.inverted", "control.empty", "mine.without-1"]
TEXTS = {"mine": parse_explanation("---\nhigher: [what counts]\n---\n", "mine", "mine.md")}


def write_home(folder: Path, sample: pd.DataFrame, card: dict[str, Any]) -> Path:
    """Writes the folder of answers about a set of patches: the text is right, its inverse wrong, the rest abstains."""
    write_table(folder / "patches" / "sample.tsv", sample)
    write_json(folder / "patches" / "sample.json", card)
    values = {"mine": truthful(sample), "mine.inverted": truthful(sample, inverted=True)}
    for name in ASKED:
        answers = zip(sample["patch_id"], values.get(name, [A] * len(sample)), strict=True)
        rows = [{**an_answer(*answer).to_dict(), "reader": "scripted", "is_vlm": False} for answer in answers]
        write_text(folder / "answers" / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    told = [json.dumps({"patch_id": patch, "description": f"of {patch}"}) for patch in sample["patch_id"]]
    write_text(folder / "descriptions.jsonl", "\n".join(told) + "\n")
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    folder = tmp_path_factory.mktemp("model")
    homes = {FROZEN: write_home(folder, make_sample(), CARD)}
    chosen = make_sample(12, seed=4).assign(patch_id=[f"t/{i}" for i in range(12)])
    # A set has no threshold of its own.
    homes["chosen"] = write_home(folder / "sets" / "chosen", chosen, {"digest": "def", "imported": True})
    return score_model(homes, NAMES, ASKED, TEXTS, "passed", SETTINGS)


def test_both_sets_of_patches_are_scored_apart(scored: Scored) -> None:
    whole = scored.scores[(scored.scores["subset"] == "X") & (scored.scores["metric"] == "auroc")]
    rows = whole.set_index(["patches", "explanation"])
    assert rows.loc[FROZEN].index.tolist() == rows.loc["chosen"].index.tolist() == NAMES
    for patches, n, digest in ((FROZEN, 40, "abc"), ("chosen", 12, "def")):
        of = rows.loc[patches]
        assert of.loc[["mine", "mine.inverted", "control.empty"], "value"].tolist() == pytest.approx([1, 0, 0.5])
        assert of.loc["mine", "n"] == n
        assert set(of["sample_digest"]) == {digest}
        assert of.loc["control.image-only", "undefined_reason"] == NOT_LOOKING
    assert set(scored.scores["gate"]) == {"passed"}


def test_every_comparison_names_its_patches(scored: Scored) -> None:
    assert set(scored.pairs["patches"]) == set(scored.statements["patches"]) == {FROZEN, "chosen"}
    gain = scored.statements[(scored.statements["patches"] == FROZEN) & (scored.statements["subset"] == "X")]
    assert gain[["statement", "gain"]].to_numpy().tolist() == [["what counts", pytest.approx(0.5)]]


def test_the_tables_read_back_as_they_were_written(scored: Scored, tmp_path: Path) -> None:
    for name in ("scores", "pairs", "statements"):
        table = getattr(scored, name)
        write_table(tmp_path / "table.tsv", table)
        again = load_table(tmp_path / "table.tsv")
        assert list(again.columns) == list(table.columns)
        text = [column for column in ("explanation", "kind", "patches", "undefined_reason") if column in table]
        assert again[text].equals(table[text].astype(str))


def test_answers_are_written_where_x2x_looks_for_them(scored: Scored, tmp_path: Path) -> None:
    scored.write_x2x(tmp_path / "x2x")
    files = sorted(path.relative_to(tmp_path / "x2x").as_posix() for path in (tmp_path / "x2x").rglob("*.csv"))
    assert files == ["mine/chosen/results.csv", "mine/frozen-sample/results.csv"]
    table = pd.read_csv(tmp_path / "x2x" / files[1])
    assert len(table) == 40
    assert table["image_description"][3] == "of s/003"
    assert ((table["logit"] > CARD["threshold"]) == table["conclusion"].str.contains("HIGH")).all()
