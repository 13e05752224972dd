"""`slidestudy check` says what would be lost and why, what is left and what it costs; a mistake is a message."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from slidestudy.cli import check as check_module
from slidestudy.cli import survey
from slidestudy.cli.app import app
from slidestudy.cli.output import duration_text, size_text
from slidestudy.errors import StudyError
from slidestudy.geometry import TileGrid
from slidestudy.slides.inspection import inspect_slide
from slidestudy.study import load_study, slide_entries

Config = dict[str, Any]
Write = Callable[[Config], Path]
Command = Callable[..., Any]


def row(text: str, *cells: str) -> str:
    """The line of a printed table that begins with some cells."""
    pattern = r"^" + r"\s+".join(map(re.escape, cells)) + r"\b.*$"
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"no line {cells} in\n{text}"
    return match[0]


def copied_tables(generated: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Lines of the generated tables, with paths that are good from any folder."""
    lines = (generated / "slides.tsv").read_text().splitlines()
    slides = [line.replace("slides/", f"{generated}/slides/") for line in lines]
    return slides, (generated / "patients.tsv").read_text().splitlines()


def use_tables(config: Config, folder: Path, slides: list[str], patients: list[str]) -> None:
    for name, lines in (("slides", slides), ("patients", patients)):
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
        config[name] = str(folder / f"{name}.tsv")


def truncate(slides: list[str], folder: Path, *ids: str) -> None:
    """Replaces slides by copies that are cut short."""
    for i, line in enumerate(slides):
        cells = line.split("\t")
        if cells[0] in ids:
            cut = folder / f"{cells[0]}{Path(cells[3]).suffix}"
            cut.write_bytes(Path(cells[3]).read_bytes()[:3000])
            slides[i] = "\t".join([*cells[:3], str(cut), *cells[4:]])


def test_a_truncated_slide_is_lost_with_its_code_and_is_no_error(config: Config, write: Write) -> None:
    result = CliRunner().invoke(app, ["check", str(write(config)), "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert "Slides that would be lost: 1 of 12" in result.output
    study = load_study(config, "study.yaml")
    record = inspect_slide(slide_entries(study)["west", "W03-1"], study.config["inspection"])
    assert record["reason"]["code"] in row(result.output, "west", "W03-1")
    assert record["reason"]["message"].split(" (")[0] in result.output
    assert "The study can run" in result.output


def test_slides_patients_and_labels_that_are_left_are_counted(run: Command, config: Config, write: Write) -> None:
    result = run("check", write(config))
    assert row(result.out, "north", "development").split()[2:] == ["7", "of", "7", "6", "of", "6"]
    assert row(result.out, "west", "external").split()[2:] == ["2", "of", "3", "2", "of", "3"]
    # The generated tables have two mucinous patients in north, one of them with two slides, and W03 is lost.
    assert row(result.out, "mucin", "mucinous", "north").split()[4:] == ["7", "6", "3"]
    assert row(result.out, "mucin", "mucinous", "west").split()[4:] == ["2", "2", "0"]


def test_the_cost_is_an_upper_bound_per_encoder(run: Command, config: Config, write: Write) -> None:
    result = run("check", write(config), "--workers", "1")
    study = load_study(config, "study.yaml")
    tiles = 0
    for entry in slide_entries(study).values():
        record = inspect_slide(entry, study.config["inspection"])
        if record["status"] == "admitted":
            grid = TileGrid(record["width"], record["height"], record["mpp"]["value"], 128, 0.5)
            tiles += len(grid.coords())
    assert f"at most {tiles} tiles" in result.out
    line = row(result.out, "stain-texture", "not needed", "78")
    assert f"at most {size_text(tiles * 78 * 2)}" in line
    assert re.search(r"at most [\d.]+ (s|min)$", line.rstrip())


def test_fast_opens_no_slide(run: Command, config: Config, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a slide was opened")

    monkeypatch.setattr(check_module, "inspect_slides", refuse)
    monkeypatch.setattr(check_module, "time_encoder", refuse)
    result = run("check", write(config), "--fast")
    assert result.code == 0
    assert "12 slides of 11 patients; cohorts: north, south, west" in result.out
    assert row(result.out, "mucin", "mucinous", "west").split()[4:] == ["3", "3", "1"]


def test_a_broken_configuration_ends_with_a_message_and_no_traceback(
    run: Command, config: Config, write: Write
) -> None:
    del config["tiles"]["size"]
    config["tilez"] = {}
    result = run("check", write(config))
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("ERROR: 2 problems in the study:")
    assert "unknown key 'tilez'" in result.err
    assert "Traceback" not in result.err


def test_a_missing_configuration_is_named(run: Command, tmp_path: Path) -> None:
    result = run("check", tmp_path / "no.yaml")
    assert result.code == 1
    assert "no.yaml: the configuration does not exist" in result.err


def test_a_study_without_models_says_that_it_ends_with_the_features(run: Command, config: Config, write: Write) -> None:
    result = run("check", write({**config, "models": {}}), "--fast")
    assert result.code == 0
    assert "No model is configured" in result.out


def test_losing_the_patients_of_a_fold_is_an_error(
    run: Command, config: Config, write: Write, generated: Path, tmp_path: Path
) -> None:
    slides, patients = copied_tables(generated, tmp_path)
    truncate(slides, tmp_path, "N01-1", "N02-1", "N03-1", "N04-1")
    use_tables(config, tmp_path, slides, patients)
    result = run("check", write(config))
    assert result.code == 1
    assert "Slides that would be lost: 5 of 12" in result.out
    assert "key models.mucin.folds: with the slides that can be used, 3 folds need as many patients" in result.err
    assert "mend the slides above, or use fewer folds" in result.err
    assert "The study can run" not in result.out


def test_losing_a_class_is_an_error(
    run: Command, config: Config, write: Write, generated: Path, tmp_path: Path
) -> None:
    slides, patients = copied_tables(generated, tmp_path)
    truncate(slides, tmp_path, "N05-1", "N05-2", "N06-1")
    use_tables(config, tmp_path, slides, patients)
    result = run("check", write(config))
    assert result.code == 1
    assert "with the slides that can be used, 'mucinous' has one class only" in result.err


def test_losing_all_slides_is_an_error(
    run: Command, config: Config, write: Write, generated: Path, tmp_path: Path
) -> None:
    slides, patients = copied_tables(generated, tmp_path)
    slides = [line for line in slides if line.startswith(("slide_id", "W"))]
    truncate(slides, tmp_path, "W01-1", "W02-1", "W03-1")
    use_tables(config, tmp_path, slides, patients)
    config |= {"models": {}, "cohorts": {"west": {"role": "external"}}}
    patients[1:] = [line for line in patients if line.startswith("W")]
    use_tables(config, tmp_path, slides, patients)
    result = run("check", write(config))
    assert result.code == 1
    assert "no slide can be used" in result.err
    assert "Cohort west has no slide left" in result.out


def test_a_warning_is_printed_and_is_no_loss(
    run: Command, config: Config, write: Write, generated: Path, tmp_path: Path
) -> None:
    slides, patients = copied_tables(generated, tmp_path)
    slides[1] += "0.3"
    use_tables(config, tmp_path, slides, patients)
    result = run("check", write(config))
    assert result.code == 0
    assert "Warnings: 1" in result.out
    assert "0.3 is used, though the file says 0.5" in row(result.out, "north", "N01-1")


def test_regions_of_interest_that_are_no_geojson_are_named_with_their_line(
    run: Command, config: Config, write: Write, tmp_path: Path
) -> None:
    table = pd.read_csv(config["slides"], sep="\t", dtype=str, keep_default_na=False)
    base = Path(config["slides"]).parent
    (tmp_path / "roi.geojson").write_text("x,y\n")
    rois = [""] * len(table)
    rois[1] = str(tmp_path / "roi.geojson")
    table.assign(path=[str(base / path) for path in table["path"]], roi=rois).to_csv(
        tmp_path / "slides.tsv", sep="\t", index=False
    )
    done = run("check", write({**config, "slides": str(tmp_path / "slides.tsv")}))
    assert done.code == 1
    assert "line 3, column roi" in done.err
    assert "not a GeoJSON FeatureCollection" in done.err


def test_a_copy_of_a_slide_is_lost_as_a_duplicate(
    run: Command, config: Config, write: Write, generated: Path, tmp_path: Path
) -> None:
    slides, patients = copied_tables(generated, tmp_path)
    copy = slides[1].split("\t")
    slides.append("\t".join(["S99-1", "S01", "south", copy[3], ""]))
    use_tables(config, tmp_path, slides, patients)
    assert "same pixels as slide N01-1 of cohort north" in row(run("check", write(config)).out, "south", "S99-1")


@pytest.mark.parametrize("fast", [True, False])
def test_weights_that_cannot_be_had_are_an_error(run: Command, config: Config, write: Write, fast: bool) -> None:
    config["encoders"]["mine"] = {"backend": "timm", "architecture": "local-dir:/nowhere", "weights": "hub"}
    result = run("check", write(config), *(["--fast"] if fast else []))
    assert result.code == 1
    assert "encoder mine, architecture local-dir:/nowhere: the folder does not exist" in result.err


def test_an_encoder_that_cannot_be_built_is_an_error(run: Command, config: Config, write: Write) -> None:
    config["encoders"]["stain-texture"] = {"dim": 3}
    result = run("check", write(config))
    assert result.code == 1
    assert "encoder stain-texture: gives vectors of length 78, though its entry says dim: 3" in result.err


def test_an_encoder_of_the_hub_is_not_timed_as_that_would_download_it(
    run: Command, config: Config, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str, encoder: Config, weights_dir: str | None) -> check_module.Weights:
        return check_module.Weights.HUB

    monkeypatch.setattr(check_module, "find_weights", find)
    monkeypatch.setattr(check_module, "time_encoder", None)
    config["encoders"] |= {
        "uni": {"allow_other_tiles": True},
        "odd": {"backend": "timm", "architecture": "resnet18", "weights": "hub"},
    }
    result = run("check", write(config))
    assert result.code == 0
    assert "1024" in row(result.out, "uni")
    assert "not measured" in row(result.out, "uni")
    assert row(result.out, "odd").count("unknown") == 3


def test_a_slide_that_crashes_its_process_costs_that_slide_only(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(entry: Config, options: Config, reading: Config) -> Config:
        if entry["slide_id"] == "N02-1":
            os._exit(139)
        return {**entry, "status": "admitted", "reason": None, "warnings": []}

    monkeypatch.setattr(survey, "inspect_slide", crash)
    study = load_study(config, "study.yaml")
    entries = list(slide_entries(study).values())
    seen: list[None] = []
    records = survey.inspect_slides(entries, study.config, 2, lambda: seen.append(None))
    assert [record["slide_id"] for record in records] == [entry["slide_id"] for entry in entries]
    lost = [record for record in records if record["status"] == "excluded"]
    assert [record["slide_id"] for record in lost] == ["N02-1"]
    assert lost[0]["reason"] == {"code": "unreadable", "message": "the file crashes OpenSlide"}
    assert len(seen) == len(entries)


def test_a_pool_that_breaks_while_slides_are_handed_in_costs_no_other_slide(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(ProcessPoolExecutor):
        submitted = 0

        def submit(self, *arguments: Any, **keys: Any) -> Any:
            Breaking.submitted += 1
            if Breaking.submitted == 3:
                raise BrokenProcessPool("a child process terminated abruptly")
            return super().submit(*arguments, **keys)

    monkeypatch.setattr(survey, "ProcessPoolExecutor", Breaking)
    study = load_study(config, "study.yaml")
    entries = list(slide_entries(study).values())
    seen: list[None] = []
    records = survey.inspect_slides(entries, study.config, 2, lambda: seen.append(None))
    assert [record["slide_id"] for record in records] == [entry["slide_id"] for entry in entries]
    assert not [record for record in records if (record["reason"] or {}).get("message") == "the file crashes OpenSlide"]
    assert len(seen) == len(entries)


def test_an_encoder_is_timed_even_on_a_slide_without_a_whole_tile(config: Config) -> None:
    study = load_study(config, "study.yaml")
    record = inspect_slide(slide_entries(study)["north", "N01-1"], study.config["inspection"])
    tiles = {"size": 512, "mpp": 4.0}
    cost = survey.time_encoder({"name": "s", "backend": "stain-texture"}, {**study.config, "tiles": tiles}, record)
    assert cost.dim == 78
    assert cost.seconds > 0


def test_an_encoder_with_a_wrong_dimension_is_not_timed(config: Config) -> None:
    study = load_study(config, "study.yaml")
    record = inspect_slide(slide_entries(study)["north", "N01-1"], study.config["inspection"])
    with pytest.raises(StudyError, match="length 78"):
        survey.time_encoder({"name": "s", "backend": "stain-texture", "dim": 1}, study.config, record)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e15, "3000 TB")]
)
def test_sizes_are_given_in_words(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (864000, "10 days")]
)
def test_durations_are_given_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
