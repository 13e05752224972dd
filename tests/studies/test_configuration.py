"""The template holds every key, its README says what each means, and the ready studies are in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slidestudy.demo.study import generate_study
from slidestudy.errors import StudyError
from slidestudy.settings import check_config
from slidestudy.study import load_study
from slidestudy.tables import load_schema, read_table
from slidestudy.yaml_files import load_yaml

SCHEMA = load_schema("config")
NO_DEFAULT = object()


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    return {**SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[-1]], **{k: v for k, v in schema.items() if k != "$ref"}}


def schema_keys(schema: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every key of the configuration: its dotted name, its schema and whether it is required."""
    for key, part in schema.get("properties", {}).items():
        part = resolved(part)
        yield above + key, part, key in schema.get("required", [])
        yield from schema_keys(part, f"{above}{key}.")
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        yield from schema_keys(resolved(extra), f"{above}<name>.")


KEYS = {name: (part, required) for name, part, required in schema_keys(SCHEMA)}


def config_keys(value: Any, schema: dict[str, Any], above: str = "") -> Iterator[str]:
    """The dotted names of the keys of a configuration, names chosen by the user as `<name>`."""
    schema = resolved(schema)
    for key, part in value.items() if isinstance(value, dict) else ():
        known = schema.get("properties", {})
        if key in known:
            yield above + key
            yield from config_keys(part, known[key], f"{above}{key}.")
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from config_keys(part, schema["additionalProperties"], f"{above}<name>.")


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of a Markdown page's tables by their first cell, which is code."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and (name := re.fullmatch(r"`([^`]+)`", cells[0])):
            assert name[1] not in rows or len(cells) == 4, f"{name[1]} stands twice"
            rows[name[1]] = cells
    return rows


@pytest.fixture(scope="module")
def readme(repository: Path) -> dict[str, list[str]]:
    return rows_of((repository / "config" / "README.md").read_text())


@pytest.fixture(scope="module")
def template(repository: Path) -> str:
    return (repository / "config" / "config.yaml").read_text()


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    generate_study(folder, seed=7, scale=0.1, patients={"north": 12, "south": 3, "west": 2})
    return folder


def test_the_readme_names_every_key_and_no_other(readme: dict[str, list[str]]) -> None:
    assert {name for name, cells in readme.items() if len(cells) == 5} == set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_the_readme_states_default_type_and_meaning(readme: dict[str, list[str]], name: str) -> None:
    (part, required), (_, kind, _, default, meaning) = KEYS[name], readme[name]
    if required:
        assert default == "required"
    elif "default" not in part:
        assert default == "—"
    else:
        assert yaml.safe_load(default.strip("`")) == part["default"]
    stated = re.findall(r"`([^`]+)`", kind) if "enum" in part else kind
    types = part.get("type")
    assert stated == part.get("enum", " or ".join(types) if isinstance(types, list) else types)
    assert len(meaning) > 5


@pytest.mark.parametrize("table", ["slides", "patients"])
def test_the_readme_names_every_column_of_the_tables(repository: Path, table: str) -> None:
    text = (repository / "config" / "README.md").read_text().split(f"### {table}.tsv")[1].split("###")[0]
    assert set(rows_of(text)) == set(load_schema(table)["properties"])


OPTIONAL = ("survival", "truth", "search", "modality", "published", "predictions", "label_efficiency")
"""Sections that are comments in the template, since not every study can have them."""


def uncommented(template: str) -> str:
    """The template with the sections that are comments in use."""
    lines, indent = [], None
    for line in template.splitlines():
        if start := re.match(rf"( *)# ({'|'.join(OPTIONAL)}):", line):
            indent = start[1]
        elif indent is not None and not line.startswith(f"{indent}#  "):
            indent = None
        lines.append(line if indent is None else indent + line.removeprefix(f"{indent}# "))
    return "\n".join(lines)


def test_the_template_holds_every_key_that_every_study_can_use(template: str) -> None:
    config = yaml.safe_load(template)
    check_config(config, "config.yaml")
    held = set(config_keys(config, SCHEMA))
    missing = [re.sub(r"^(models\.<name>|validation)\.", "", name) for name in set(KEYS) - held]
    assert {name.split(".")[0] for name in missing} == set(OPTIONAL)


def test_the_templates_comments_on_further_sections_are_valid_and_complete(template: str) -> None:
    config = yaml.safe_load(uncommented(template))
    check_config(config, "config.yaml")
    assert set(config_keys(config, SCHEMA)) == set(KEYS)


def test_the_template_gives_each_key_its_default(template: str) -> None:
    config = yaml.safe_load(uncommented(template))
    for name, (part, _) in KEYS.items():
        simple = part.get("type") not in ("object", "array") and "default" in part
        if simple and name not in ("cohorts.<name>.description",):
            assert given(config, name.split(".")) == part["default"], name


def given(value: Any, path: list[str]) -> Any:
    """The value at a path; `<name>` stands for the last entry."""
    for key in path:
        value = list(value.values())[-1] if key == "<name>" else value[key]
    return value


def test_every_key_of_the_template_has_a_comment_above_it(template: str) -> None:
    lines = uncommented(template).splitlines()
    # Names chosen by the user, what a comment above two or more keys covers, and cohorts' keys explain themselves.
    covered = {"std", "answer_prompt", "image_only_prompt", "role", "description", "til", "hospital-a", "hospital-b"}
    covered |= {"lymphocytes-raise", "detailed", "tumour-raises"}
    for i, line in enumerate(lines):
        match = re.match(r" *([\w-]+):", line)
        if match and match[1] not in covered:
            assert lines[i - 1].lstrip().startswith("#"), line


def test_the_templates_tables_are_in_order_but_for_their_slides(repository: Path) -> None:
    for name in ("slides", "patients"):
        assert len(read_table(repository / "config" / f"{name}.tsv", name)) >= 2
    source = repository / "config" / "config.yaml"
    with pytest.raises(StudyError) as caught:
        load_study(load_yaml(source), source)
    assert all("/path/to/" in problem.what for problem in caught.value.problems)


def test_the_demo_study_is_in_order_on_generated_slides(repository: Path, slides: Path) -> None:
    source = repository / "config" / "studies" / "demo" / "config.yaml"
    config = load_yaml(source)
    for section, key, name in ((config, "slides", "slides"), (config, "patients", "patients")):
        assert section[key] == f"../../../demo-data/{name}.tsv"
        section[key] = str(slides / f"{name}.tsv")
    config["truth"]["table"] = str(slides / "truth.tsv")
    assert config["explanations"]["gate"]["table"] == "../../../demo-data/gate/gate.tsv"
    config["explanations"]["gate"]["table"] = str(slides / "gate" / "gate.tsv")
    study = load_study(config, source)
    assert study.cohorts("development") == ["north"]
    assert list(study.config["models"]) == ["til-ectil", "til-small", "mucinous-abmil", "prognosis"]
    columns = (slides / "truth.tsv").read_text().splitlines()[0].split("\t")
    assert set(study.config["truth"]["columns"].values()) <= set(columns)


@pytest.mark.shared
def test_the_colon_study_is_in_order(repository: Path, shared: Path) -> None:
    source = repository / "tests" / "studies" / "colon-til" / "config.yaml"
    study = load_study(load_yaml(source), source)
    assert len(study.slides) == 121
    assert study.labels("til-ectil")["target"].notna().sum() == 112


@pytest.mark.shared
def test_the_study_of_shared_slides_names_every_file_once(repository: Path, shared: Path) -> None:
    source = repository / "tests" / "studies" / "shared-slides" / "config.yaml"
    study = load_study(load_yaml(source), source)
    files = [path for path in (shared / "slides").rglob("*") if path.suffix not in (".dat", ".ini") and path.is_file()]
    assert sorted(study.slides["path"]) == sorted(map(str, files))
    assert study.config["models"] == {}
