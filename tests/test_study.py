"""A study is loaded whole, or everything that does not fit together is said; its stages depend on small files."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from slidestudy.errors import StudyError
from slidestudy.study import load_study, slide_entries
from slidestudy.yaml_files import load_yaml
from tests.drafts import Draft

# In order


def test_a_study_in_order_is_loaded_with_absolute_paths(draft: Draft) -> None:
    study = draft.load()
    assert study.cohorts("development") == ["north"]
    assert study.cohorts("external") == ["south"]
    assert study.slides["path"].tolist()[0] == str(draft.folder / "A1.svs")
    assert study.config["explanations"]["texts"] == {"short": str(draft.folder / "explanation.md")}


def test_the_working_folder_does_not_matter(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = draft.load().slides["path"].tolist()
    monkeypatch.chdir("/")
    assert draft.load().slides["path"].tolist() == paths


def test_a_patients_label_goes_to_all_their_slides(draft: Draft) -> None:
    labels = draft.load().labels("til").set_index("slide_id")
    assert list(labels.columns) == ["patient_id", "cohort", "center", "target"]
    assert labels.loc[["A1", "A1b"], "target"].tolist() == [10, 10]
    assert labels["target"].isna().sum() == 1
    assert labels.loc["A3", "center"] == "c1"


def test_a_label_may_stand_in_the_table_of_slides(draft: Draft) -> None:
    draft.config["models"]["til"]["target"] = "reading"
    draft.slides = [line + (f"\t{i}" if i else "\treading") for i, line in enumerate(draft.slides)]
    labels = draft.load().labels("til").set_index("slide_id")
    assert labels.loc[["A1", "A1b"], "target"].tolist() == [1, 5]


def test_an_entry_says_what_the_tables_say_of_a_slide(draft: Draft) -> None:
    entries = slide_entries(draft.load())
    assert list(entries)[:2] == [("north", "A1"), ("north", "A2")]
    assert entries["north", "A1"]["mpp"] is None
    assert entries["north", "A1b"] == {
        "slide_id": "A1b",
        "patient_id": "A1",
        "cohort": "north",
        "path": str(draft.folder / "A1b.svs"),
        "mpp": 0.25,
        "roi": None,
        "mask": None,
    }


def test_a_study_without_models_needs_no_development_cohort(draft: Draft) -> None:
    draft.config |= {"models": {}, "explanations": {}}
    draft.config["cohorts"]["north"]["role"] = "external"
    assert draft.load().cohorts("development") == []


def test_a_target_range_is_0_to_100_unless_given(draft: Draft) -> None:
    study = draft.load()
    assert study.config["models"]["til"]["target_range"] == [0, 100]
    assert study.config["models"]["mucin"]["target_range"] is None
    draft.config["models"]["til"] |= {"target_range": None, "aggregator": "gated-abmil"}
    assert draft.load().config["models"]["til"]["target_range"] is None


# Mistakes in the tables


def test_a_slide_that_does_not_exist_is_named_with_file_and_line(draft: Draft) -> None:
    (draft.folder / "A3.svs").unlink()
    text = draft.message()
    assert f"{draft.folder / 'slides.tsv'}, line 4, column path: the slide {draft.folder / 'A3.svs'}" in text
    assert "correct the path, or remove the line" in text


def test_a_roi_that_does_not_exist_is_named(draft: Draft) -> None:
    draft.slides = [line + ("" if i else "\troi") for i, line in enumerate(draft.slides)]
    draft.slides[2] += "\tA2.geojson"
    assert "line 3, column roi: the ROI" in draft.message()


def test_a_repeated_slide_is_named_with_its_lines(draft: Draft) -> None:
    draft.slides.append("A1\tA1\tnorth\tA1.svs\t")
    assert "slides.tsv, lines 2, 8, column slide_id: 'A1' stands more than once" in draft.message()


@pytest.mark.parametrize(("table", "line"), [("slides", 7), ("patients", 6)])
def test_an_unknown_cohort_is_named_with_the_nearest(draft: Draft, table: str, line: int) -> None:
    rows = getattr(draft, table)
    rows[-1] = rows[-1].replace("south", "sooth")
    text = draft.message()
    assert f"{table}.tsv, line {line}, column cohort: unknown cohort 'sooth'" in text
    assert "did you mean 'south'?" in text


def test_a_patient_who_is_not_in_the_patient_table_is_named(draft: Draft) -> None:
    del draft.patients[3]
    text = draft.message()
    assert "slides.tsv, line 4, column patient_id: patient 'A3' is not in patients.tsv" in text
    assert "add the patient there" in text


def test_a_patient_with_slides_in_two_cohorts_is_named(draft: Draft) -> None:
    draft.slides[5] = draft.slides[5].replace("north", "south")
    text = draft.message()
    assert "line 6, column patient_id: patient 'A1' is of cohort 'north', the slide of 'south'" in text


def test_a_patient_given_in_two_cohorts_is_named(draft: Draft) -> None:
    draft.patients.append("A1\tsouth\ts\t\t\t")
    assert "patients.tsv, lines 2, 7, column patient_id: 'A1' stands more than once" in draft.message()


def test_a_cohort_without_slides_is_named(draft: Draft) -> None:
    draft.config["cohorts"]["east"] = {"role": "external"}
    assert "cohort 'east' has no slide" in draft.message()


def test_a_label_outside_its_range_is_named_with_its_model(draft: Draft) -> None:
    draft.patients[2] = draft.patients[2].replace("\t20\t", "\t120\t")
    text = draft.message()
    assert "patients.tsv, line 3, column tils: 'tils' is '120.0', which is above 100" in text
    assert "between 0 and 100, or blank where unknown (target of til)" in text


def test_a_label_that_is_no_number_is_named(draft: Draft) -> None:
    draft.patients[2] = draft.patients[2].replace("\t20\t", "\tmany\t")
    assert "line 3, column tils: 'tils' is 'many', which is not a number" in draft.message()


def test_mistakes_of_both_tables_are_reported_together(draft: Draft) -> None:
    draft.patients[2] = draft.patients[2].replace("\t20\t", "\tmany\t")
    draft.slides[1] = draft.slides[1].replace("A1\tA1", "A 1\tA1")
    draft.slides.append("A2\t\tnorth\tA2.svs\t")
    text = draft.message()
    assert text.startswith("4 problems")
    assert "'many'" in text
    assert "'A 1'" in text
    assert "'patient_id' is blank" in text
    assert "'A2' stands more than once" in text


def test_several_mistakes_between_the_tables_are_reported_together(draft: Draft) -> None:
    (draft.folder / "A1.svs").unlink()
    (draft.folder / "B1.svs").unlink()
    del draft.patients[3]
    assert draft.message().startswith("3 problems")


# Mistakes between the configuration and the tables


def test_a_target_that_no_table_holds_is_named_with_the_nearest(draft: Draft) -> None:
    draft.config["models"]["til"]["target"] = "tls"
    text = draft.message()
    assert "key models.til.target: no table has a column 'tls'" in text
    assert "did you mean 'tils'?" in text


def test_a_target_that_both_tables_hold_is_refused(draft: Draft) -> None:
    draft.slides = [line + ("\t5" if i else "\ttils") for i, line in enumerate(draft.slides)]
    assert "key models.til.target: the column 'tils' stands in both tables" in draft.message()


def test_more_folds_than_patients_are_refused(draft: Draft) -> None:
    draft.config["models"]["til"]["folds"] = 5
    text = draft.message()
    assert "key models.til.folds: 5 folds need as many patients with a label" in text
    assert "there are 4" in text
    assert "use fewer folds" in text


def test_patients_without_a_label_fill_no_fold(draft: Draft) -> None:
    draft.patients[1:3] = ["A1\tnorth\tc1\t\t1\t50", "A2\tnorth\tc0\t\t0\t50"]
    assert "3 folds need as many patients with a label in the development cohorts, there are 2" in draft.message()


def test_more_folds_than_centres_are_refused(draft: Draft) -> None:
    draft.config["models"]["til"]["group_by"] = "center"
    text = draft.message()
    assert "3 folds need as many centers" in text
    assert "group_by: patient" in text


def test_a_class_label_with_one_class_is_refused(draft: Draft) -> None:
    draft.patients[1:5] = [f"A{i}\tnorth\tc\t{i}\t1\t50" for i in range(1, 5)]
    assert "key models.mucin.target: 'mucinous' has one class only" in draft.message()


# Mistakes within the configuration


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("models.til.encoder", "stain-textures", ["models.til.encoder: unknown encoder", "mean 'stain-texture'?"]),
        ("encoders.mine", {"backend": "timm"}, ["encoders.mine: a timm encoder needs an arch", "to say its weights"]),
        ("models.mucin.aggregator", "ectil", ["models.mucin.task: the aggregator ectil cannot do classification"]),
        ("models.til.target_range", [100, 0], ["key models.til.target_range: [100, 0] is not a range"]),
        ("cohorts.north.role", "external", ["key cohorts: no cohort has the role development"]),
        ("explanations.models", ["tils"], ["key explanations.models: unknown model 'tils'", "did you mean 'til'?"]),
        ("explanations.texts", {}, ["key explanations.texts: no explanation is given"]),
        ("explanations.sample.strata_by", "stage", ["key explanations.sample.strata_by"]),
        ("explanations.gate.table", "gate.tsv", ["key explanations.gate.table", "gate.tsv does not exist"]),
        ("explanations.patch_sets", {"mine": "mine"}, ["key explanations.patch_sets.mine", "is no folder"]),
        ("explanations.sample", {"cohorts": ["souht"]}, ["sample.cohorts: unknown cohort 'souht'", "mean 'south'?"]),
    ],
)
def test_a_key_that_fits_nothing_is_named(draft: Draft, path: str, value: Any, said: list[str]) -> None:
    *parents, last = path.split(".")
    part = draft.config
    for key in parents:
        part = part.setdefault(key, {})
    part[last] = value
    text = draft.message()
    assert all(words in text for words in said), text


def test_chosen_patches_are_of_the_one_model_that_is_explained(draft: Draft) -> None:
    draft.config["explanations"] |= {"models": ["til", "mucin"], "patch_sets": {"mine": "."}}
    assert (
        "key explanations.patch_sets: the patches hold the logits of one model, but 2 are explained" in draft.message()
    )
    draft.config["explanations"]["models"] = ["til"]
    assert draft.load().config["explanations"]["patch_sets"] == {"mine": str(draft.folder)}


def test_a_weights_file_that_does_not_exist_is_named(draft: Draft) -> None:
    draft.config["encoders"]["mine"] = {"backend": "timm", "architecture": "resnet18", "weights": "mine.safetensors"}
    text = draft.message()
    assert f"key encoders.mine: the weights file {draft.folder / 'mine.safetensors'} does not exist" in text
    assert "hub, none or study" in text


def test_a_weights_file_is_looked_for_beside_the_configuration(draft: Draft) -> None:
    (draft.folder / "mine.safetensors").touch()
    draft.config["encoders"]["mine"] = {"backend": "timm", "architecture": "resnet18", "weights": "mine.safetensors"}
    assert draft.load().config["encoders"]["mine"]["weights"] == str(draft.folder / "mine.safetensors")


def test_an_explanation_text_that_does_not_exist_is_named(draft: Draft) -> None:
    draft.config["explanations"]["texts"]["long"] = "long.md"
    assert f"key explanations.texts.long: {draft.folder / 'long.md'} does not exist" in draft.message()


def test_a_truth_table_that_does_not_exist_and_its_unknown_model_are_named(draft: Draft) -> None:
    draft.config["truth"] = {"table": "truth.tsv", "columns": {"tilz": "true_tils"}}
    text = draft.message()
    assert "key truth.table:" in text
    assert "key truth.columns: unknown model 'tilz'" in text


def test_mistakes_within_the_configuration_are_reported_together(draft: Draft) -> None:
    draft.config["models"]["til"]["encoder"] = "uni"
    draft.config["models"]["mucin"]["aggregator"] = "ectil"
    draft.config["explanations"]["texts"]["long"] = "long.md"
    assert draft.message().startswith("3 problems")


def test_missing_tables_are_both_named(draft: Draft) -> None:
    draft.source.write_text(yaml.safe_dump(draft.config))
    with pytest.raises(StudyError) as caught:
        load_study(load_yaml(draft.source), draft.source)
    assert str(caught.value).count("the table does not exist") == 2


def test_a_study_that_is_refused_leaves_no_file(draft: Draft) -> None:
    draft.config["models"]["til"]["encoder"] = "uni"
    draft.message()
    assert not (draft.folder / "results").exists()


# Settings files


def test_a_job_does_not_look_for_the_slides_again(draft: Draft) -> None:
    draft.load()
    (draft.folder / "A1.svs").unlink()
    assert "A1.svs does not exist" in draft.message()
    assert len(load_study(load_yaml(draft.source), draft.source, files=False).slides) == 6


def test_covariates_stand_beside_the_label(draft: Draft) -> None:
    draft.config["models"]["til"]["covariates"] = ["age"]
    labels = draft.load().labels("til").set_index("slide_id")
    assert labels.loc["A1", "age"] == 50
    assert labels["age"].isna().sum() == 1


def test_a_covariate_that_no_table_has_is_named(draft: Draft) -> None:
    draft.config["models"]["til"]["covariates"] = ["stage"]
    assert "key models.til.covariates: no table has a column 'stage'" in draft.message()


def test_a_table_of_parts_must_exist(draft: Draft) -> None:
    draft.config["models"]["til"]["splits"] = {"scheme": "table", "table": "folds.csv"}
    assert f"the table of parts {draft.folder / 'folds.csv'} does not exist" in draft.message()
    (draft.folder / "folds.csv").touch()
    assert draft.load().config["models"]["til"]["splits"]["table"] == str(draft.folder / "folds.csv")


def test_a_second_modality_goes_with_the_aggregators_that_take_one(draft: Draft) -> None:
    til, mucin = draft.config["models"]["til"], draft.config["models"]["mucin"]
    til["modality"] = {"table": "expression.tsv"}
    mucin |= {"aggregator": "mcat", "options": {"groups": [[0]]}}
    said = draft.message()
    assert "models.til.modality: the aggregator ectil takes no second modality" in said
    assert f"models.til.modality.table: the table {draft.folder / 'expression.tsv'} does not exist" in said
    assert "models.mucin.modality: the aggregator mcat needs a second modality" in said
    assert "models.mucin.options: groups are no option of mcat" in said
    (draft.folder / "expression.tsv").touch()
    til["aggregator"] = "concat-abmil"
    mucin |= {"aggregator": "gated-abmil", "options": {}}
    assert draft.load().config["models"]["til"]["modality"]["table"] == str(draft.folder / "expression.tsv")


def test_what_leave_one_out_tests_on_is_written_out(draft: Draft) -> None:
    draft.config["models"]["til"]["splits"] = {"scheme": "leave-one-center-out"}
    assert draft.load().config["models"]["til"]["splits"]["held_out"] == ["c0", "c1"]
