"""A user's mistake gives one message before any job starts, also through the workflow."""

from __future__ import annotations

import pytest
import yaml

from tests.workflow.small_study import run, write_small_study

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    path = write_small_study(folder)
    return path, yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["tiles"].update(sise=3), ["tiles", "unknown key 'sise'", "size"]),
        (lambda c: c["models"]["til"].update(encoder="resnet"), ["models.til.encoder", "unknown encoder 'resnet'"]),
        (
            lambda c: c["encoders"].update(mine={"backend": "timm", "architecture": "resnet18", "weights": "no.pth"}),
            ["encoders.mine", "no.pth does not exist"],
        ),
        (lambda c: c.update(slides="nowhere.tsv"), ["nowhere.tsv", "does not exist"]),
        (lambda c: c["cohorts"].pop("west"), ["line", "unknown cohort 'west'"]),
    ],
)
def test_mistake_is_told_before_any_job_starts(small, change, expected):
    path, original = small
    config = yaml.safe_load(yaml.safe_dump(original))
    change(config)
    wrong = path.with_name("wrong.yaml")
    wrong.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = run(wrong, path.parent)
    assert done.status != 0
    assert done.jobs == {}
    assert not (path.parent / "results").exists()
    for text in expected:
        assert text in done.output
    assert "Traceback" not in done.output
