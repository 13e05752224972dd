"""`slidestudy init` writes a study that can be checked at once, and never overwrites one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slidestudy.cli import init as init_module
from slidestudy.cli.init import EXTENSIONS, MAX_COHORTS, assign_cohorts, find_slides, name_slides
from slidestudy.cli.template import FOR_LATER, TEMPLATE, fill_template, split_blocks
from slidestudy.errors import StudyError
from slidestudy.settings import check_config
from slidestudy.study import Study, load_study
from slidestudy.yaml_files import load_yaml

Command = Callable[..., Any]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(study: Path) -> Study:
    return load_study(load_yaml(study / "config.yaml"), study / "config.yaml")


def cohorts_of(folder: Path) -> dict[str, str]:
    """The cohort of each slide by its file name."""
    paths = find_slides(folder)
    return {path.name: cohort for path, cohort in zip(paths, assign_cohorts(paths, folder), strict=True)}


SECTIONS = {
    **{name: (f"# {name}:", "") for name in FOR_LATER},
    "encoders": ("  # # Features that", "  "),
}
"""What is a comment at first: how it begins and its indent."""


def uncommented(text: str, *names: str) -> str:
    """The configuration with sections put to use as a user does: `# ` is taken away down to the next blank line."""
    for start, indent in (SECTIONS[name] for name in names):
        head, rest = text.split(f"\n{start}")
        section, tail = f"{start}{rest}".split("\n\n", 1)
        lines = [indent + line.removeprefix(f"{indent}# ") for line in section.splitlines()]
        text = head + "\n" + "\n".join(lines) + "\n\n" + tail
    return text


def test_a_folder_with_subfolders_becomes_a_study_that_passes_the_check(
    run: Command, generated: Path, tmp_path: Path
) -> None:
    study = tmp_path / "mine"
    first = run("init", generated / "slides", "--output", study)
    assert first.code == 0, first.err
    assert f"slidestudy check {study / 'config.yaml'}" in first.out
    assert "north (development), south (external), west (external)" in first.out
    loaded = read(study)
    assert {name: cohort["role"] for name, cohort in loaded.config["cohorts"].items()} == {
        "north": "development",
        "south": "external",
        "west": "external",
    }
    assert len(loaded.slides) == 12
    assert sorted(path.name for path in study.iterdir()) == ["config.yaml", "patients.tsv", "slides.tsv"]
    second = run("check", study / "config.yaml")
    assert second.code == 0, second.err
    assert "The study can run" in second.out


def test_labels_can_be_filled_in_and_the_sections_be_put_to_use(run: Command, generated: Path, tmp_path: Path) -> None:
    study = tmp_path / "mine"
    run("init", generated / "slides", "--output", study)
    table = study / "patients.tsv"
    lines = table.read_text().splitlines()
    assert lines[0] == "patient_id\tcohort\tcenter\ttils"
    table.write_text("\n".join([lines[0], *(f"{line.rstrip()}\t{i}" for i, line in enumerate(lines[1:]))]) + "\n")
    (study / "config.yaml").write_text(uncommented((study / "config.yaml").read_text(), "models", "explanations"))
    loaded = read(study)
    assert list(loaded.config["models"]) == ["til"]
    assert list(loaded.config["encoders"]) == ["stain-texture"]
    assert loaded.labels("til")["target"].notna().all()
    assert all(Path(text).is_file() for text in loaded.config["explanations"]["texts"].values())


def test_the_configuration_holds_what_the_template_holds(tmp_path: Path) -> None:
    config = yaml.safe_load(uncommented(fill_template("mine", ["a"], tmp_path), *SECTIONS))
    template = yaml.safe_load(TEMPLATE.read_text())
    own = {"study", "results", "cohorts", "explanations"}
    assert {k: v for k, v in config.items() if k not in own} == {k: v for k, v in template.items() if k not in own}
    assert config["explanations"]["sample"] == template["explanations"]["sample"]
    assert config["results"] == "results/mine"
    check_config(config, "config.yaml")


def test_splitting_a_configuration_loses_nothing() -> None:
    text = TEMPLATE.read_text()
    blocks = split_blocks(text)
    assert "".join(above + body for _, above, body in blocks) == text
    assert [key for key, _, _ in blocks[:-1]] == list(yaml.safe_load(text))


def test_the_study_is_written_beside_by_default(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "biopsies", "a.svs")
    monkeypatch.chdir(tmp_path)
    assert run("init", "biopsies").code == 0
    assert (tmp_path / "study-biopsies" / "config.yaml").is_file()


@pytest.mark.parametrize("name", ["config.yaml", "slides.tsv", "patients.tsv"])
def test_nothing_is_overwritten(run: Command, tmp_path: Path, name: str) -> None:
    study = tmp_path / "mine"
    touch(tmp_path / "biopsies", "a.svs")
    touch(study, name)
    (study / name).write_text("my work")
    result = run("init", tmp_path / "biopsies", "--output", study)
    assert result.code == 1
    assert f"already holds {name}" in result.err
    assert (study / name).read_text() == "my work"
    assert [path.name for path in study.iterdir()] == [name]


def test_a_folder_without_slides_is_refused_and_nothing_written(run: Command, tmp_path: Path) -> None:
    touch(tmp_path / "notes", "a.txt", "sub/b.jpg")
    result = run("init", tmp_path / "notes", "--output", tmp_path / "mine")
    assert result.code == 1
    assert "notes: holds no slide" in result.err
    assert ".svs" in result.err
    assert not (tmp_path / "mine").exists()


def test_something_else_than_a_folder_is_refused(run: Command, tmp_path: Path) -> None:
    result = run("init", touch(tmp_path, "a.svs") / "a.svs")
    assert result.code == 1
    assert "a.svs: is not a folder" in result.err


def test_every_format_is_found_whatever_its_case_and_hidden_files_are_not(tmp_path: Path) -> None:
    names = [f"a{ending}" for ending in sorted(EXTENSIONS)]
    touch(tmp_path, *names, "b.SVS", "sub/c.Tiff", ".hidden.svs", ".cache/d.svs", "e.txt", "f.svs.part")
    found = [str(path.relative_to(tmp_path)) for path in find_slides(tmp_path)]
    assert sorted(found) == sorted([*names, "b.SVS", "sub/c.Tiff"])


def test_a_dicom_series_is_one_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "s1/1.dcm", "s1/2.dcm", "s1/3.dcm", "s2/1.dcm", "s2/broken.dcm", "s2/worse.dcm")
    series = {"s1/1.dcm": "x", "s1/2.dcm": "x", "s1/3.dcm": "y", "s2/1.dcm": "x"}
    monkeypatch.setattr(init_module, "_dicom_series", lambda path: series.get(str(path.relative_to(tmp_path))))
    found = [str(path.relative_to(tmp_path)) for path in find_slides(tmp_path)]
    assert found == ["s1/1.dcm", "s1/3.dcm", "s2/1.dcm", "s2/broken.dcm", "s2/worse.dcm"]


@pytest.mark.shared
def test_the_series_of_a_real_dicom_file_is_read_and_of_a_broken_one_unknown(shared: Path) -> None:
    assert init_module._dicom_series(shared / "slides" / "camelyon_overview_jpeg.dcm")
    assert init_module._dicom_series(shared / "slides" / "small_dicom.dcm") is None


def test_slides_of_one_folder_are_one_cohort_named_after_it(tmp_path: Path) -> None:
    folder = touch(tmp_path / "My biopsies (2020)", "a.svs", "b.tif")
    assert cohorts_of(folder) == {"a.svs": "My_biopsies_2020", "b.tif": "My_biopsies_2020"}


def test_first_level_subfolders_are_cohorts_and_the_folders_own_slides_another(tmp_path: Path) -> None:
    folder = touch(tmp_path / "all", "z.svs", "site a/1.svs", "site a/deep/2.svs", "site.b/3.svs")
    assert cohorts_of(folder) == {"z.svs": "all", "1.svs": "site_a", "2.svs": "site_a", "3.svs": "site_b"}


def test_subfolders_whose_names_become_alike_stay_apart(tmp_path: Path) -> None:
    folder = touch(tmp_path, "site a/1.svs", "site_a/2.svs")
    assert len(set(cohorts_of(folder).values())) == 2


def test_a_patient_with_slides_in_two_subfolders_makes_them_one_cohort(tmp_path: Path) -> None:
    folder = touch(tmp_path / "tcga", "x/TCGA-AA-0001-01Z.svs", "y/TCGA-AA-0001-01A.svs", "y/TCGA-AA-0002.svs")
    assert set(cohorts_of(folder).values()) == {"tcga"}


def test_many_subfolders_are_one_cohort(tmp_path: Path) -> None:
    folder = touch(tmp_path / "download", *[f"{i}/{i}.svs" for i in range(MAX_COHORTS)])
    assert len(set(cohorts_of(folder).values())) == MAX_COHORTS
    touch(folder, "one-more/x.svs")
    assert set(cohorts_of(folder).values()) == {"download"}


def test_ids_are_valid_and_unique_and_follow_the_file_names() -> None:
    names = ["a/S 1 (H&E).svs", "b/S 1 (H&E).tif", "c/s_1_H_E.svs", "_x.svs", "ä.svs", "a.b-c.svs"]
    slides = name_slides(map(Path, names), ["c"] * len(names))
    ids = [slide.slide_id for slide in slides]
    assert ids == ["S_1_H_E", "S_1_H_E-2", "s_1_H_E-3", "x", "unnamed", "a.b-c"]
    assert len({name.casefold() for name in ids}) == len(names)
    assert [slide.patient_id for slide in slides] == ids


def test_tcga_barcodes_name_the_patient() -> None:
    names = ["TCGA-A1-A0SB-01Z-00-DX1.uuid.svs", "tcga-a1-a0sb-01a-01-ts1.svs", "TCGA.svs"]
    slides = name_slides(map(Path, names), ["c"] * 3)
    assert [slide.patient_id for slide in slides] == ["TCGA-A1-A0SB", "TCGA-A1-A0SB", "TCGA"]


def test_a_patient_with_two_slides_has_one_row(run: Command, tmp_path: Path) -> None:
    touch(tmp_path / "tcga", "TCGA-A1-A0SB-01Z-00-DX1.svs", "TCGA-A1-A0SB-01Z-00-DX2.svs", "TCGA-A1-A0SD-01Z.svs")
    run("init", tmp_path / "tcga", "--output", tmp_path / "mine")
    study = read(tmp_path / "mine")
    assert study.patients["patient_id"].tolist() == ["TCGA-A1-A0SB", "TCGA-A1-A0SD"]
    assert len(study.slides) == 3


def test_names_that_yaml_would_misread_survive(run: Command, tmp_path: Path) -> None:
    touch(tmp_path / "2020", "no/a.svs", "1e5/b.svs")
    assert run("init", tmp_path / "2020", "--output", tmp_path / "mine").code == 0
    study = read(tmp_path / "mine")
    assert list(study.config["cohorts"]) == ["1e5", "no"]
    assert study.config["study"] == "2020"


def test_a_missing_folder_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is not a folder"):
        find_slides(tmp_path / "nowhere")
