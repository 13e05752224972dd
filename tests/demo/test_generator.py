"""The demo study: its slides open, its truth is what was painted, and its tables fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from slidestudy.demo.cohorts import COHORT_SIZES, hazard, plan_study
from slidestudy.demo.layout import LYMPHOCYTE_REACH_UM, plan_layout
from slidestudy.demo.scanner import SCANNER_A, SCANNER_B, Pen, Scanner, mark_with_pen, scan, write_slide
from slidestudy.demo.study import generate_study
from slidestudy.demo.tissue import paint_tissue
from slidestudy.errors import StudyError

SIZES = {"north": 5, "south": 4, "west": 2}
FIELD_UM = (384, 256)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate_study(folder, seed=7, scale=0.3, patients=SIZES)
    return folder


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.tsv", sep="\t")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def painted(scanner: Scanner, seed: int = 1, til: float = 40.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layout = plan_layout(rng, FIELD_UM, til, mucinous=False)
    return scan(rng, paint_tissue(rng, layout, scanner.mpp), scanner, (1.0, 1.0))


# Files


def test_sound_slides_open_with_levels_and_the_scanners_mpp(study: Path) -> None:
    slides = table(study, "slides")
    seen = set()
    for row in slides[slides.patient_id != "W03"].itertuples():
        with openslide.OpenSlide(study / row.path) as slide:
            assert slide.level_count >= 2
            vendor = slide.properties["openslide.vendor"]
            assert vendor == ("aperio" if row.path.endswith(".svs") else "generic-tiff")
            if np.isnan(row.mpp):
                expected = 0.5 if vendor == "aperio" else 0.4
                assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(expected)
                assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(expected)
            seen.add((row.cohort, vendor))
    assert seen == {
        ("north", "aperio"),
        ("north", "generic-tiff"),
        ("south", "generic-tiff"),
        ("west", "aperio"),
    }


def test_aperio_slide_carries_the_objective_and_a_thumbnail(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.svs", painted(SCANNER_A), SCANNER_A)
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.properties["openslide.objective-power"] == "20"
        assert "thumbnail" in slide.associated_images


@pytest.mark.parametrize("scanner", [SCANNER_A, SCANNER_B], ids=["A", "B"])
def test_openslide_reads_the_colours_that_were_written(tmp_path: Path, scanner: Scanner) -> None:
    image = painted(scanner)
    path = tmp_path / f"slide{scanner.format.value}"
    write_slide(path, image, scanner)
    with openslide.OpenSlide(path) as slide:
        read = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).mean() < 4.0
    assert np.abs(read.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 1.0


@pytest.mark.parametrize("scanner", [SCANNER_A, SCANNER_B], ids=["A", "B"])
def test_a_slide_written_without_mpp_has_none(tmp_path: Path, scanner: Scanner) -> None:
    path = tmp_path / f"slide{scanner.format.value}"
    write_slide(path, painted(scanner), scanner, with_mpp=False)
    with openslide.OpenSlide(path) as slide:
        assert "openslide.mpp-x" not in slide.properties
        assert "openslide.objective-power" not in slide.properties
        assert slide.level_count >= 2


def test_the_truncated_slide_cannot_be_read_to_its_end(study: Path) -> None:
    slides = table(study, "slides")
    (path,) = slides.loc[slides.patient_id == "W03", "path"]
    with pytest.raises(openslide.OpenSlideError):  # noqa: PT012 - opening may fail, or only reading
        slide = openslide.OpenSlide(study / path)
        slide.read_region((0, 0), 0, slide.dimensions)


def test_exactly_one_slide_has_its_mpp_in_the_table_and_not_in_the_file(study: Path) -> None:
    slides = table(study, "slides")
    (row,) = slides[slides.mpp.notna()].itertuples()
    assert row.cohort == "south"
    assert row.mpp == 0.4
    with openslide.OpenSlide(study / row.path) as slide:
        assert "openslide.mpp-x" not in slide.properties


# Tissue


def test_til_truth_is_the_share_of_stroma_near_a_painted_lymphocyte() -> None:
    layout = plan_layout(np.random.default_rng(3), FIELD_UM, 35.0, mucinous=True)
    # Independently of the generator's distance transform: a tree over the grid cells that hold a centre.
    tree = cKDTree(np.floor(layout.lymphocytes))
    rows, columns = np.nonzero(layout.stroma)
    distance, _ = tree.query(np.stack([columns, rows], axis=1))
    expected = 100.0 * np.mean(distance <= LYMPHOCYTE_REACH_UM + 1e-6)
    assert layout.truth().tils == pytest.approx(expected, abs=0.1)
    assert layout.truth().n_lymphocytes == len(layout.lymphocytes)


def test_til_truth_rises_with_the_request_and_stays_near_it() -> None:
    requests = [2.0, 10.0, 25.0, 45.0, 65.0, 85.0]
    truths = [plan_layout(np.random.default_rng(5), (768, 640), r, mucinous=False).truth() for r in requests]
    tils = [truth.tils for truth in truths]
    assert all(np.diff(tils) > 0)
    assert all(np.diff([truth.n_lymphocytes for truth in truths]) > 0)
    assert np.abs(np.array(tils) - requests).max() < 12


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), til=st.floats(0, 100), mucinous=st.booleans())
def test_regions_divide_the_tissue_and_cells_lie_in_their_own(seed: int, til: float, mucinous: bool) -> None:
    layout = plan_layout(np.random.default_rng(seed), FIELD_UM, til, mucinous)
    parts = [layout.tumour, layout.stroma, layout.fat, layout.mucin]
    assert np.array_equal(np.sum(parts, axis=0), layout.tissue)
    border = np.concatenate([layout.tissue[[0, -1]].ravel(), layout.tissue[:, [0, -1]].ravel()])
    assert not border.any()
    for points, region in [
        (layout.lymphocytes, layout.stroma),
        (layout.spindle_nuclei, layout.stroma),
        (layout.tumour_nuclei, layout.tumour),
    ]:
        columns, rows = points.astype(int).T
        assert region[rows, columns].all()
    truth = layout.truth()
    assert 0 <= truth.tils <= 100
    assert (truth.mucin_fraction > 0) == mucinous


def test_lymphocytes_are_small_and_darker_than_tumour_nuclei() -> None:
    layout = plan_layout(np.random.default_rng(2), FIELD_UM, 50.0, mucinous=False)
    maps = paint_tissue(np.random.default_rng(2), layout, 0.5)

    def at(points: np.ndarray) -> np.ndarray:
        columns, rows = (points / 0.5).astype(int).T
        return maps.haematoxylin[rows, columns]

    assert np.median(at(layout.lymphocytes)) > 1.5 * np.median(at(layout.tumour_nuclei))


def test_the_same_layout_is_painted_at_any_mpp() -> None:
    layout = plan_layout(np.random.default_rng(2), FIELD_UM, 50.0, mucinous=False)
    for mpp in (0.4, 0.5, 1.0):
        maps = paint_tissue(np.random.default_rng(2), layout, mpp)
        assert maps.haematoxylin.shape == (round(FIELD_UM[1] / mpp), round(FIELD_UM[0] / mpp))
        columns, rows = (layout.lymphocytes / mpp).astype(int).T
        assert np.median(maps.haematoxylin[rows, columns]) > 0.9


def test_scanners_differ_in_colour_and_glass_is_not_pure_white() -> None:
    a, b = painted(SCANNER_A), painted(SCANNER_B)
    for image in (a, b):
        corner = image[:12, :12].mean(axis=(0, 1))
        assert (corner > 235).all()
        assert (corner < 250).all()

    def hue(image: np.ndarray) -> np.ndarray:
        tissue = image[image.min(axis=2) < 200].astype(float)
        density = -np.log((tissue + 1) / 245).mean(axis=0)
        return density / np.linalg.norm(density)

    assert np.abs(hue(a) - hue(b)).max() > 0.05


@pytest.mark.parametrize("pen", list(Pen))
def test_a_pen_inks_glass_and_tissue_in_its_colour(pen: Pen) -> None:
    image = painted(SCANNER_A)
    marked = mark_with_pen(np.random.default_rng(4), image, SCANNER_A.mpp, pen)
    inked = np.abs(marked.astype(int) - image).max(axis=2) > 60
    assert 0.01 < inked.mean() < 0.5
    on_glass = inked & (image.min(axis=2) > 230)
    assert np.abs(np.median(marked[on_glass], axis=0) - pen.value).max() < 45
    assert (inked & (image.min(axis=2) < 200)).any()


# Study


def test_equal_seeds_give_equal_bytes_whatever_the_workers(tmp_path: Path) -> None:
    sizes = {"north": 2, "south": 1, "west": 1}
    for name, seed, workers in [("one", 3, 1), ("two", 3, 2), ("other", 4, 2)]:
        generate_study(tmp_path / name, seed=seed, scale=0.2, patients=sizes, workers=workers)
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith((".svs", ".tif")))
    assert one["truth.tsv"] != other["truth.tsv"]


def test_a_finished_study_is_left_alone_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    sizes = {"north": 1, "south": 1, "west": 1}
    calls: list[tuple[int, int, str]] = []

    def run() -> None:
        calls.clear()
        generate_study(tmp_path, 1, 0.2, lambda *call: calls.append(call), patients=sizes, workers=1)

    run()
    assert [call[:2] for call in calls] == [(done, 5) for done in range(1, 6)]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    before = contents(tmp_path)
    run()
    assert calls == []
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "slides/west/W01-1.svs").write_bytes(b"cut")
    run()
    assert len(calls) == 5
    assert contents(tmp_path) == before


def test_tables_name_the_same_slides_and_patients_and_every_file_exists(study: Path) -> None:
    slides, patients, truth = (table(study, name) for name in ("slides", "patients", "truth"))
    assert list(slides.columns) == ["slide_id", "patient_id", "cohort", "path", "mpp"]
    assert " ".join(patients.columns) == "patient_id cohort center age tils mucinous time event"
    assert " ".join(truth.columns) == (
        "slide_id patient_id cohort true_tils n_lymphocytes mucin_fraction tumour_fraction hazard"
    )
    assert slides.slide_id.is_unique
    assert patients.patient_id.is_unique
    assert list(slides.slide_id) == list(truth.slide_id)
    assert set(slides.patient_id) == set(patients.patient_id)
    assert all((study / path).is_file() for path in slides.path)
    assert patients.groupby("cohort").size().to_dict() == {"north": 5, "south": 4, "west": 3}


def test_one_northern_patient_has_two_slides(study: Path) -> None:
    counts = table(study, "slides").groupby(["cohort", "patient_id"]).size()
    assert sorted(counts)[-2:] == [1, 2]
    assert counts.idxmax()[0] == "north"


def test_readings_are_multiples_of_five_near_the_truth_and_two_are_blank(study: Path) -> None:
    patients = table(study, "patients")
    tils = patients.tils.dropna()
    assert len(patients) - len(tils) == 2
    assert tils.between(0, 100).all()
    assert (tils % 5 == 0).all()
    truth = table(study, "truth").groupby("patient_id").true_tils.mean()
    assert patients.set_index("patient_id").tils.corr(truth) > 0.8


def test_mucin_is_painted_exactly_where_the_patient_is_mucinous(study: Path) -> None:
    truth = table(study, "truth").merge(table(study, "patients"), on="patient_id")
    assert ((truth.mucin_fraction > 0) == (truth.mucinous == 1)).all()
    assert truth.mucinous.nunique() == 2


def test_hazard_falls_with_the_true_til_level_by_the_stated_ratio(study: Path) -> None:
    by_patient = table(study, "truth").groupby("patient_id")[["true_tils", "hazard"]].mean()
    ordered = by_patient.sort_values("true_tils")
    assert (np.diff(ordered.hazard) < 0).all()
    slope = np.polyfit(ordered.true_tils / 10, np.log(ordered.hazard), 1)[0]
    assert np.exp(slope) == pytest.approx(0.85, abs=0.001)


def test_outcomes_are_censored_at_ten_years_and_follow_the_hazard(study: Path) -> None:
    patients = table(study, "patients")
    assert patients.time.between(0.01, 10.0).all()
    assert set(patients.event) <= {0, 1}
    assert (patients.loc[patients.time == 10.0, "event"] == 0).all()
    followed = replace(plan_study(7, COHORT_SIZES)[0], event_draw=1.0, censored_at=1e6)
    assert followed.outcome(80.0)[0] > followed.outcome(5.0)[0]
    assert followed.outcome(5.0)[1] == 1
    assert replace(followed, censored_at=0.5).outcome(5.0) == (0.5, 0)
    assert hazard(30.0) / hazard(20.0) == pytest.approx(0.85)


def test_the_full_plan_has_the_stated_cohorts_centres_and_special_slides() -> None:
    plans = plan_study(2024, COHORT_SIZES)
    slides = [slide for plan in plans for slide in plan.slides]
    assert [sum(s.cohort == c for s in slides) for c in COHORT_SIZES] == [33, 14, 15]
    north = [plan for plan in plans if plan.cohort == "north"]
    for center in ("c1", "c2", "c3", "c4"):
        members = [plan for plan in north if plan.center == center]
        assert len(members) == 8
        assert {slide.scanner.name for plan in members for slide in plan.slides} == {"A", "B"}
    assert {s.scanner.name for s in slides if s.cohort == "south"} == {"B"}
    assert {s.scanner.name for s in slides if s.cohort == "west"} == {"A"}
    assert {s.pen for s in slides if s.pen} == set(Pen)
    assert sum(s.pen is not None for s in slides) == 4
    assert [s.cohort for s in slides if s.truncated] == ["west"]
    assert [s.cohort for s in slides if not s.with_mpp] == ["south"]
    assert sum(plan.tils_blank for plan in plans) == 2
    assert 0.35 < np.mean([plan.mucinous for plan in plans]) < 0.45
    requests = [s.til_request for s in slides]
    assert min(requests) < 6
    assert max(requests) > 75


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"scale": 0.0}, "scale"),
        ({"patients": {"east": 3}}, "east"),
        ({"patients": {"west": 0}}, "west"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, object], named: str
) -> None:
    with pytest.raises(StudyError, match=named):
        generate_study(tmp_path / "study", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "study").exists()
