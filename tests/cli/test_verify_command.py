"""`slidestudy verify`, `export` and `import`: what they print and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.cli.conftest import Command
from tests.features.stores import grid, make_store


def test_sound_stores_end_with_zero_and_one_line(run: Command, tmp_path: Path) -> None:
    for slide in ("s1", "s2"):
        make_store(tmp_path / "north" / f"{slide}.zarr")
    ended = run("verify", tmp_path)
    assert (ended.code, ended.out) == (0, "2 stores with 24 tiles checked: no problem found.\n")


def test_a_store_with_problems_is_one_line_and_ends_with_one(run: Command, tmp_path: Path) -> None:
    make_store(tmp_path / "s1.zarr")
    bad = make_store(tmp_path / "s2.zarr", np.ascontiguousarray(grid()[::-1]))
    content = json.loads((bad / "zarr.json").read_text())
    content["attributes"]["n_tiles"] = 7
    (bad / "zarr.json").write_text(json.dumps(content))
    ended = run("verify", tmp_path / "s1.zarr", bad)
    line, summary = ended.out.splitlines()
    assert ended.code == 1
    assert line.startswith(f"{bad}: ")
    assert "row-major" in line
    assert "n_tiles is 7" in line
    assert summary.startswith("2 stores with 24 tiles checked: 1 with problems.")


def test_a_folder_without_stores_is_a_message(run: Command, tmp_path: Path) -> None:
    ended = run("verify", tmp_path)
    assert ended.code == 1
    assert "holds no feature store" in ended.err
    assert "Traceback" not in ended.err


def test_export_writes_a_file_per_slide_and_names_those_without_tiles(run: Command, tmp_path: Path) -> None:
    make_store(tmp_path / "in" / "s1.zarr")
    make_store(tmp_path / "in" / "s2.zarr", grid()[:0], status="excluded")
    ended = run("export", tmp_path / "in", "--format", "stamp", "--output", tmp_path / "out")
    written, without = ended.out.splitlines()
    assert (ended.code, written) == (0, f"1 file written to {tmp_path / 'out'}.")
    assert without == "Without tiles, and so without a file: s2."
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["s1.h5"]


def test_tensors_of_an_export_for_clam_are_named_and_can_be_imported(run: Command, tmp_path: Path) -> None:
    make_store(tmp_path / "in" / "s1.zarr")
    ended = run("export", tmp_path / "in", "--format", "clam", "--output", tmp_path / "clam")
    assert str(tmp_path / "clam" / "pt_files") in ended.out.splitlines()[1]
    tensor = tmp_path / "clam" / "pt_files" / "s1.pt"
    ended = run("import", tensor, "--output", tmp_path / "back")
    assert (ended.code, ended.out) == (0, f"1 store written to {tmp_path / 'back'}.\n")
    (tmp_path / "clam" / "s1.h5").rename(tmp_path / "s1.h5")
    ended = run("import", tensor, "--output", tmp_path / "again")
    assert ended.code == 1
    assert "has no coordinates" in ended.err
    assert run("import", tensor, "--coords", tmp_path, "--output", tmp_path / "again").code == 0


def test_import_brings_an_export_back_and_names_what_cannot_be_imported(run: Command, tmp_path: Path) -> None:
    make_store(tmp_path / "in" / "s1.zarr")
    run("export", tmp_path / "in", "--format", "clam", "--output", tmp_path / "h5")
    ended = run("import", tmp_path / "h5" / "s1.h5", tmp_path / "absent.h5", "--output", tmp_path / "back")
    assert (ended.code, ended.out) == (1, f"1 store written to {tmp_path / 'back'}.\n")
    assert "absent.h5: cannot be read" in ended.err
    assert run("verify", tmp_path / "back").code == 0
