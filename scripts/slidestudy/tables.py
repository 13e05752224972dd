"""Reading and writing tab-separated tables, checked against a JSON schema, all problems at once."""

from __future__ import annotations

import csv
import difflib
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import yaml

from slidestudy.errors import Problem, StudyError
from slidestudy.files import atomic_path

SCHEMAS = Path(__file__).resolve().parents[2] / "workflow" / "schemas"
SEPARATORS = {"\t": "tab", ",": "comma"}
"""What may stand between the columns of a table, in words."""


@cache
def load_schema(name: str) -> dict[str, Any]:
    """Loads `workflow/schemas/<name>.schema.yaml`."""
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint at the nearest known word, or the list of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known) or 'none'}"


def _split(path: str | os.PathLike[str], text: str, delimiter: str) -> tuple[list[str], list[list[str]], list[Problem]]:
    """Splits a table's text into its header and rows of stripped cells, one row per line, with its problems."""
    lines = text.rstrip().split("\n")
    rows, problems = [], []
    for number, line in enumerate(lines, 1):
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True), [])]
        except csv.Error:
            cells = []
            problems.append(Problem(f"{path}, line {number}", "a quote is not closed", "remove it or close it"))
        else:
            if not any(cells):
                problems.append(Problem(f"{path}, line {number}", "the line is blank", "remove it"))
        rows.append(cells)
    header = rows[0]
    while header and not header[-1]:
        header.pop()
    for number, cells in enumerate(rows[1:], 2):
        if any(cells[len(header) :]):
            what = f"has {len(cells)} cells, though the header names {len(header)} columns"
            remedy = f"put exactly one {SEPARATORS[delimiter]} between columns"
            problems.append(Problem(f"{path}, line {number}", what, remedy))
    for name in sorted({name for name in header if not name or header.count(name) > 1}):
        what = f"the column '{name}' stands twice" if name else "a column has no name"
        problems.append(Problem(f"{path}", what, "keep one of them" if name else "name it, or remove it"))
    return header, rows[1:], problems


def read_raw(path: str | os.PathLike[str], delimiter: str = "\t") -> pd.DataFrame:
    """Reads a TSV with every cell as text; a blank cell is missing. Row i stands on line i + 2.

    Args:
        path: The file.
        delimiter: What stands between columns, a key of SEPARATORS.

    Raises:
        StudyError: The file is missing, empty, not UTF-8 or not separated so, or a line does not fit the header.
    """
    where, separated = str(path), f"{SEPARATORS[delimiter]}-separated"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise StudyError("the table does not exist", where, "correct the path") from None
    except (OSError, UnicodeDecodeError) as error:
        remedy = f"save it as {separated} text in UTF-8"
        raise StudyError(f"not a readable UTF-8 table ({error})", where, remedy) from None
    if not text.strip():
        raise StudyError("the table is empty", where, "give it a header line and one row per entry")
    header, rows, problems = _split(path, text, delimiter)
    if not rows:
        raise StudyError("the table has a header and no row", where, "give it one row per entry")
    if len(header) == 1 and any(other in header[0] for other in {*SEPARATORS, ";"} - {delimiter}):
        what = f"the columns are not separated by {SEPARATORS[delimiter]}s"
        raise StudyError(what, where, f"save it as {separated} text")
    if problems:
        raise StudyError.of(problems)
    cells = [[(row[i] if i < len(row) else "") or None for i in range(len(header))] for row in rows]
    return pd.DataFrame(cells, columns=header, dtype=object)


def _convert(text: Any, kinds: list[str]) -> Any:
    """A cell's text as the type its schema asks for; unchanged if it does not fit (the schema then says so)."""
    if text is None or not isinstance(text, str):
        return None
    for kind in kinds:
        try:
            number = float(text) if kind in ("integer", "number") else math.nan
        except ValueError:
            continue
        # A missing label is a blank cell: "nan" and "inf" stay text, which the schema refuses.
        if kind == "number" and math.isfinite(number):
            return number
        # Spreadsheets write the whole numbers of a column with blanks as 1.0.
        if kind == "integer" and number.is_integer():
            return int(number)
    return text


def _cell_problem(error: jsonschema.ValidationError, column: str) -> tuple[str, str]:
    """What is wrong with a cell and how to mend it."""
    schema = error.schema if isinstance(error.schema, dict) else {}
    remedy = str(schema.get("description", ""))
    if error.validator == "type" and error.instance is None:
        return f"'{column}' is blank", remedy or "fill it in"
    wanted = error.validator_value
    kind = next((k for k in wanted if k != "null"), "text") if isinstance(wanted, list) else wanted
    allowed = ", ".join(str(v) for v in wanted if v is not None) if isinstance(wanted, list) else wanted
    expected = {
        "type": f"is not a{'n' if kind == 'integer' else ''} {kind}",
        "minimum": f"is below {error.validator_value}",
        "maximum": f"is above {error.validator_value}",
        "exclusiveMinimum": f"is not above {error.validator_value}",
        "pattern": "has characters that are not allowed",
        "enum": f"is none of {allowed}",
    }.get(str(error.validator), error.message)
    return f"'{column}' is '{error.instance}', which {expected}", remedy


def _missing_remedy(name: str, schema: dict[str, Any], present: list[str]) -> str:
    """How to mend a missing column: rename one that looks like it, or add it."""
    near = difflib.get_close_matches(name, present, n=1)
    described = f"it holds {schema['description']}" if "description" in schema else ""
    return f"rename '{near[0]}' to '{name}'" if near else f"add it; {described}".rstrip("; ")


def read_table(path: str | os.PathLike[str], schema_name: str, ranges: dict[str, Any] | None = None) -> pd.DataFrame:
    """Reads a table and checks every row against its schema.

    Args:
        path: The TSV file.
        schema_name: Name of the row schema in `workflow/schemas`.
        ranges: More column schemas, by column name, e.g. of the labels that the config names.

    Returns:
        The table, typed by the schema; missing cells are None or NaN. Its index counts from 0.

    Raises:
        StudyError: With every problem found: missing columns, and file, line, column and remedy of each bad cell.
    """
    schema = load_schema(schema_name)
    columns = {**schema["properties"], **(ranges or {})}
    table = read_raw(path)
    problems = [
        Problem(f"{path}", f"the column '{name}' is missing", _missing_remedy(name, columns[name], list(table.columns)))
        for name in schema["required"]
        if name not in table.columns
    ]
    if problems:
        raise StudyError.of(problems)
    for name, column_schema in columns.items():
        if name not in table.columns:
            continue
        kinds = column_schema.get("type", "string")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        table[name] = pd.Series([_convert(v, kinds) for v in table[name]], index=table.index, dtype=object)
        validator = jsonschema.Draft202012Validator(column_schema)
        for row, value in enumerate(table[name]):
            # The first of a cell's errors, the type before all others, says enough.
            errors = sorted(validator.iter_errors(value), key=lambda error: error.validator != "type")
            for error in errors[:1]:
                what, remedy = _cell_problem(error, name)
                problems.append(Problem(f"{path}, line {row + 2}, column {name}", what, remedy))
    problems += duplicates(table, path, schema.get("x-unique", []))
    if problems:
        raise StudyError.of(problems)
    return table.infer_objects()


def duplicates(table: pd.DataFrame, path: str | os.PathLike[str], keys: list[str]) -> list[Problem]:
    """Problems for ids that stand on more than one line."""
    problems = []
    for key in keys:
        lines: dict[str, list[int]] = {}
        for row, value in enumerate(table[key]):
            lines.setdefault(value, []).append(row + 2)
        problems += [
            Problem(
                f"{path}, lines {', '.join(map(str, at))}, column {key}",
                f"'{value}' stands more than once",
                f"every {key} must be unique: rename or remove the others",
            )
            for value, at in lines.items()
            if value is not None and len(at) > 1
        ]
    return problems


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Writes a TSV atomically; floats in full precision, missing cells blank."""
    with atomic_path(path) as partial:
        table.to_csv(partial, sep="\t", index=False, lineterminator="\n", na_rep="")


TEXT_COLUMNS = (
    "slide_id", "patient_id", "cohort", "center", "patch_id", "explanation", "part", "stage", "code", "message",
    "undefined_reason", "stratum", "metric", "level", "role", "subset", "kind",
    "slide_id_a", "patient_id_a", "cohort_a", "slide_id_b", "patient_id_b", "cohort_b",
    "vendor", "scanner", "scan_date", "objective", "icc", "reader",
    "explanation_a", "explanation_b", "patches", "statement", "side", "gate",
    "biology", "check", "encoder", "candidate", "reference", "probe", "measure", "detail", "out_of_distribution",
    "model", "rival", "column", "group", "test", "highest", "lowest",
)  # fmt: skip
"""Columns that stay text, also where an id looks like a number or like `NA`."""
TEXT_BESIDE = {
    "target": "metric", "endpoint": "score", "score": "endpoint", "group": "endpoint", "cutoffs": "endpoint",
    "strata": "endpoint", "split": "endpoint", "term": "endpoint", "analysis": "endpoint", "scale": "endpoint",
    "standard_errors": "endpoint", "missing": "endpoint", "warning": "endpoint",
}  # fmt: skip
"""Columns that are text only in tables that have another one: the target of a metric is a name."""


def load_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads a table that the workflow wrote itself; ids stay text, blank numbers become NaN."""
    header = pd.read_csv(path, sep="\t", nrows=0).columns
    text = {name: str for name in header if name in TEXT_COLUMNS or TEXT_BESIDE.get(name) in header}
    blanks = {name: [""] for name in header if name not in text}
    return pd.read_csv(path, sep="\t", dtype=text, keep_default_na=False, na_values=blanks)
