"""The files that the rules depend on are rewritten when their own part of the study changes, and only then."""

from __future__ import annotations

import json
import os

import pytest

from slidestudy.settings_files import publish_settings
from slidestudy.study import Study, slide_entries
from slidestudy.tables import load_table
from tests.drafts import Draft


def stamps(study: Study) -> dict[str, float]:
    return {str(p.relative_to(study.results)): p.stat().st_mtime for p in study.results.rglob("*") if p.is_file()}


def rewritten(draft: Draft, study: Study) -> set[str]:
    """Settings files that a changed draft rewrites."""
    for path in study.results.rglob("*"):
        os.utime(path, (1, 1))
    publish_settings(draft.load())
    return {name.removeprefix("settings/") for name, stamp in stamps(study).items() if stamp > 1}


@pytest.fixture
def published(draft: Draft) -> Study:
    study = draft.load()
    publish_settings(study)
    return study


def test_each_stage_slide_and_model_has_its_settings_file(published: Study) -> None:
    names = set(stamps(published))
    assert {"settings/slides.yaml", "settings/tissue.yaml", "settings/features.stain-texture.yaml"} <= names
    assert {"settings/models.til.yaml", "settings/labels/til.tsv", "settings/labels/mucin.tsv"} <= names
    entry = json.loads((published.results / "settings/slides/north/A1b.json").read_text())
    assert entry == slide_entries(published)["north", "A1b"]


def test_a_labels_file_holds_a_row_per_slide_with_blanks_where_unknown(published: Study) -> None:
    lines = (published.results / "settings/labels/til.tsv").read_text().splitlines()
    assert lines[0] == "slide_id\tpatient_id\tcohort\tcenter\ttarget"
    assert "A1b\tA1\tnorth\tc1\t10.0" in lines
    assert "B1\tB1\tsouth\ts\t" in lines
    assert len(lines) == 7


def test_the_covariate_of_the_patch_sample_has_a_table_of_its_own(draft: Draft, published: Study) -> None:
    assert not (published.results / "settings/strata.tsv").exists()
    draft.config["explanations"]["sample"] = {"strata_by": "center"}
    assert rewritten(draft, published) == {"explanations.sample.yaml", "report.yaml", "strata.tsv"}
    lines = (published.results / "settings/strata.tsv").read_text().splitlines()
    assert lines[0] == "slide_id\tvalue"
    assert "A1b\tc1" in lines


def test_publishing_the_same_study_again_rewrites_nothing(draft: Draft, published: Study) -> None:
    assert rewritten(draft, published) == set()


def test_a_changed_tile_size_rewrites_features_and_leaves_slides_and_tissue(draft: Draft, published: Study) -> None:
    draft.config["tiles"]["size"] = 512
    names = rewritten(draft, published)
    assert "features.stain-texture.yaml" in names
    assert names <= {"features.stain-texture.yaml", "explanations.sample.yaml", "report.yaml"}


def test_a_changed_mpp_rewrites_that_slides_entry_only(draft: Draft, published: Study) -> None:
    draft.slides[1] += "0.5"
    assert rewritten(draft, published) == {"slides/north/A1.json"}


def test_a_changed_label_rewrites_that_models_labels_only(draft: Draft, published: Study) -> None:
    draft.patients[1] = draft.patients[1].replace("\t10\t", "\t15\t")
    assert rewritten(draft, published) == {"labels/til.tsv"}


def test_a_covariate_that_no_model_uses_rewrites_nothing(draft: Draft, published: Study) -> None:
    draft.patients[1] = draft.patients[1].replace("\t50", "\t51")
    assert rewritten(draft, published) == set()


def test_comparisons_summaries_and_pretraining_have_their_tables(draft: Draft) -> None:
    own = {"backend": "timm", "architecture": "resnet18", "weights": "study"}
    draft.config["encoders"]["own"] = {**own, "pretraining": {"method": "simclr", "check_label": "mucinous"}}
    comparison = {"target": "tils", "task": "regression", "folds": 3, "biology": "mucinous"}
    draft.config |= {"comparisons": {"c": comparison}, "summaries": {"encoders": ["own"], "biology": "mucinous"}}
    study = draft.load()
    publish_settings(study)
    tables = {
        name: (study.results / "settings" / name).read_text().splitlines()
        for name in ("comparisons/c.tsv", "summaries/own.tsv", "pretraining/own.tsv")
    }
    assert tables["comparisons/c.tsv"][0] == "slide_id\tpatient_id\tcohort\tcenter\ttarget\tbiology"
    assert "A1b\tA1\tnorth\tc1\t10.0\t1" in tables["comparisons/c.tsv"]
    assert "B1\tB1\tsouth\ts\t0" in tables["summaries/own.tsv"]
    assert "A2\tA2\tnorth\tc0\t\t0" in tables["pretraining/own.tsv"]
    assert not any(line.startswith("B1") for line in tables["pretraining/own.tsv"])


def test_the_groups_of_all_slides_are_one_table_as_text(draft: Draft) -> None:
    draft.config["validation"] = {"subgroups": {"age": {"edges": [55]}, "center": {}, "scanner": {}}}
    study = draft.load()
    publish_settings(study)
    found = load_table(study.results / "settings" / "subgroups.tsv")
    assert found.groupby("column").size().to_dict() == {"age": 6, "center": 6}
    ages = study.values("age").set_index("slide_id")["value"].astype(float)
    named = found[found["column"] == "age"].set_index("slide_id")["group"]
    assert named.to_dict() == {s: "unknown" if a != a else "< 55" if a < 55 else ">= 55" for s, a in ages.items()}
    draft.config["validation"]["subgroups"]["age"]["edges"] = [60]
    assert rewritten(draft, study) == {"subgroups.tsv", "subgroups.til.yaml", "subgroups.mucin.yaml"}


def test_wrong_columns_of_groups_are_told_before_anything_runs(draft: Draft) -> None:
    draft.config["validation"] = {"subgroups": {"agee": {}, "cohort": {}}}
    message = draft.message()
    assert "2 problems" in message
    assert "did you mean 'age'?" in message
    assert "each cohort is measured by itself" in message
