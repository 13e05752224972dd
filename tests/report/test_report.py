"""The report: one self-contained page that shows what is in the files, and nothing that is not."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slidestudy.errors import StudyError
from slidestudy.report.attrition import cohort_flow
from slidestudy.report.build import build_report
from slidestudy.report.explaining import NOT_A_VLM
from slidestudy.report.inline import inline_svg
from slidestudy.report.layout import interval, number, spread_evenly
from tests.report.fake_study import BAD_MESSAGE, build_fake_results, train_encoders

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Elements, ids and text of a page, and whether its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study")
    return folder, build_fake_results(folder)


@pytest.fixture(scope="module")
def html(fake: tuple[Path, dict[str, Any]]) -> str:
    return build_report(*fake)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_fetched_from_elsewhere(page: Page, html: str) -> None:
    assert not {"script", "link", "iframe", "object", "base"} & page.tags.keys()
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert not re.search(r"https?://", html)


def test_every_id_is_unique_and_every_reference_has_its_id(page: Page, html: str) -> None:
    ids = Counter(page.values("id"))
    assert max(ids.values()) == 1
    wanted = {v[1:] for v in page.values("href")} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert wanted <= ids.keys()
    assert set(page.values("aria-labelledby")) <= ids.keys()


def test_pictures_tables_and_figures_say_what_they_show(page: Page) -> None:
    assert len(page.values("alt")) == page.tags["img"] > 0
    assert all(page.values("alt"))
    assert page.tags["caption"] == page.tags["table"] > 10
    assert len(page.values("aria-label")) >= page.tags["svg"] == 9


def test_text_of_a_user_is_escaped(page: Page, html: str) -> None:
    assert "<b>at all" not in html
    assert BAD_MESSAGE in page.text
    assert "Fake study <of> tests" in page.text
    assert "More of it <i>raises</i> the score." in page.text


def test_numbers_come_with_intervals_or_reasons(page: Page) -> None:
    assert "0.71 (0.55–0.82)" in page.text
    assert "8.21 (6.10–10.90)" in page.text
    assert "−0.05 (−0.31 to 0.22)" in page.text
    assert re.search(r"undefined\s+one class only", page.text)
    assert "no interval: 2 patients" in page.text
    assert "AUROC, ≥ 30" in page.text
    assert "95% intervals from 2,000 bootstrap samples of whole patients." in page.text
    assert not re.search(r"\b(nan|None|NaN)\b", page.text)


def test_untrained_weights_are_flagged_wherever_the_encoder_is_named(
    page: Page, fake: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    assert "UNTRAINED" in page.text
    assert len(re.findall(r"resnet18\s+UNTRAINED", page.text)) >= 5
    assert not re.search(r"stain-texture\s+UNTRAINED", page.text)
    shutil.copytree(fake[0], tmp_path / "trained")
    train_encoders(tmp_path / "trained")
    encoders = {**fake[1]["encoders"], "resnet18": {"backend": "timm", "weights": "weights.safetensors"}}
    assert "UNTRAINED" not in build_report(tmp_path / "trained", {**fake[1], "encoders": encoders})


def test_it_says_who_answered(page: Page) -> None:
    assert NOT_A_VLM in page.text
    assert "cross-validated" in page.text
    assert "ensemble of all folds" in page.text


def test_explanations_are_shown_with_the_readers_test_their_statements_and_what_they_get_wrong(page: Page) -> None:
    assert "lymphocyte-poor on 20 known patches: AUROC 0.91 (0.80–0.98), needed 0.70. Passed." in page.text
    assert "small round <dark> nuclei" in page.text
    assert "+0.31 (0.20–0.40)" in page.text
    assert "p < 0.001" in page.text
    assert "p = 0.004" in page.text
    assert "patches of the set chosen, which a person chose" in page.text
    assert "the reader is no vision-language model" in page.text
    assert "Where lymphocytes-raise is most wrong" in page.text
    assert "answer: very high" in page.text or "answer: abstained" in page.text
    assert "lymphocytes-raise.without-1" not in page.text


def test_maps_are_shown_beside_their_patches_with_how_faithful_they_are(page: Page) -> None:
    assert "Where in the patches the score comes from" in page.text
    assert "Grad-CAM (layer layer4) of 8 patches" in page.text
    assert "0.321 (0.210–0.430)" in page.text
    assert "+0.221 (0.100–0.300)" in page.text
    assert "the model defines no attention" in page.text


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (None, "The reader was not tested on known patches"),
        ({"result": "failed", "reason": "the AUROC is below 0.7", "auroc": 0.6, "n": 20}, "FAILED (the AUROC is below"),
        ({"result": "failed", "reason": "the AUROC is undefined", "auroc": None, "n": 0}, "AUROC undefined"),
    ],
)
def test_a_reader_that_did_not_pass_its_test_is_told(tmp_path: Path, gate: dict[str, Any] | None, said: str) -> None:
    settings = build_fake_results(tmp_path)
    path = tmp_path / "explanations" / "gate" / "gate.json"
    path.unlink()
    if gate is not None:
        path.write_text(json.dumps({**gate, "ci_low": None, "ci_high": None, "smallest_auroc": 0.7}))
    assert said in Page(build_report(tmp_path, settings)).text


def test_two_runs_give_the_same_bytes(fake: tuple[Path, dict[str, Any]], html: str) -> None:
    assert build_report(*fake) == html


def test_nothing_of_the_template_or_of_this_machine_is_left(html: str, fake: tuple[Path, dict[str, Any]]) -> None:
    assert "{{" not in html
    assert "{%" not in html
    assert str(fake[0]) not in html


@pytest.mark.parametrize(("models", "explanations"), [(True, False), (False, False)])
def test_a_study_may_lack_models_and_explanations(tmp_path: Path, models: bool, explanations: bool) -> None:
    settings = build_fake_results(tmp_path, models=models, explanations=explanations)
    text = Page(build_report(tmp_path, settings)).text
    assert "This study scores no explanation." in text
    assert ("This study trains no model." in text) is not models
    assert "Explanation AUROC" not in text


def test_models_whose_files_are_not_there_yet(tmp_path: Path, fake: tuple[Path, dict[str, Any]]) -> None:
    build_fake_results(tmp_path, models=False, explanations=False)
    text = Page(build_report(tmp_path, fake[1])).text
    assert "No metrics were found." in text
    assert "No folds were found." in text


def test_damaged_files_are_named(tmp_path: Path) -> None:
    settings = build_fake_results(tmp_path, models=False, explanations=False)
    (tmp_path / "tissue" / "north" / "N00-1.jpg").write_bytes(b"no picture")
    with pytest.raises(StudyError, match=r"N00-1\.jpg"):
        build_report(tmp_path, settings)
    (tmp_path / "slides" / "ledger.tsv").write_text("cohort\tslide_id\nnorth\tN1\n")
    with pytest.raises(StudyError, match=r"ledger\.tsv.*has no column patient_id"):
        build_report(tmp_path, settings)


def test_slides_of_an_earlier_configuration_are_not_shown(tmp_path: Path) -> None:
    settings = build_fake_results(tmp_path, models=False, explanations=False)
    for name in ("tissue/north/N00-1", "slides/north/N00-1"):
        shutil.copy(tmp_path / f"{name}.json", tmp_path / f"{name.replace('N00', 'OLD')}.json")
    shutil.copy(tmp_path / "tissue/north/N00-1.jpg", tmp_path / "tissue/north/OLD-1.jpg")
    assert "OLD-1" not in build_report(tmp_path, settings)


def test_a_slide_lost_twice_is_counted_once() -> None:
    roster = pd.DataFrame({"slide_id": ["a", "b", "c"], "patient_id": ["p", "p", "q"]})
    ledger = pd.DataFrame({
        "slide_id": ["a", "a", "b", ""],
        "stage": ["tissue", "features:e", "labels:m", "patients"],
        "code": ["no_tissue", "too_few_tiles", "label_missing", "no_slide"],
    })  # fmt: skip
    steps = cohort_flow(roster, ledger, ["e", "f"], {"m": "e", "n": "f"})
    left = [[(b.name, b.slides, b.patients, b.lost) for b in step.branches] for step in steps]
    assert left == [
        [("", 3, 2, {})],
        [("", 3, 2, {})],
        [("", 2, 2, {"no_tissue": 1})],
        [("e", 2, 2, {}), ("f", 2, 2, {})],
        [("m", 1, 1, {"label_missing": 1}), ("n", 2, 2, {})],
    ]


def test_a_drawing_cannot_reach_out_of_itself() -> None:
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="x()" width="9">'
        "<style>*{fill:red}</style><script>x()</script><g id='unused'/>"
        "<defs><clipPath id='c'/></defs><g clip-path='url(#c)'><use xlink:href='#c'/>a &lt; b</g>"
        "<image xlink:href='http://example.org/a.png'/></svg>"
    )
    svg = str(inline_svg(text, "one", "a & b"))
    assert "one-c" in svg
    assert 'clip-path="url(#one-c)"' in svg
    assert 'href="#one-c"' in svg
    assert 'aria-label="a &amp; b"' in svg
    assert "a &lt; b" in svg
    assert not re.search(r"script|<style|onload|unused|http", svg)
    with pytest.raises(StudyError, match="no SVG"):
        inline_svg("<html/>", "one", "")


@pytest.mark.parametrize(
    ("value", "low", "high", "metric", "expected"),
    [
        (0.7123, 0.55, 0.824, "pearson", "0.71 (0.55–0.82)"),
        (-0.001, -0.2, 0.1, "ccc", "0.00 (−0.20 to 0.10)"),
        (0.5, None, None, "auroc", "0.50"),
        (123.4, 100.2, 150.9, "mse", "123 (100–151)"),
        (0.01234, 0.01, 0.02, "mae", "0.0123 (0.0100–0.0200)"),
    ],
)
def test_values_are_written_alike(
    value: float, low: float | None, high: float | None, metric: str, expected: str
) -> None:
    assert interval(value, low, high, metric) == expected


def test_numbers_have_no_negative_zero() -> None:
    assert number(-0.0001, 2) == "0.00"
    assert number(-1234.5, 1) == "−1,234.5"


def test_choices_are_spread_from_first_to_last() -> None:
    assert spread_evenly(3, 6) == [0, 1, 2]
    assert spread_evenly(10, 4) == [0, 3, 6, 9]
    assert spread_evenly(10, 1) == [0]
    assert spread_evenly(10, 0) == []
