"""Feature stores as the files that TRIDENT, CLAM, STAMP and ECTIL read.

The layouts are those of the tools' public documentation and of files that they write:

- TRIDENT: `features` (n, d), `coords` (n, 2) in level-0 px with the patching parameters as attributes.
- CLAM: `features` (n, d) float32, `coords` (n, 2) in level-0 px; and the features alone as a tensor to train on.
- STAMP (2.1): `feats` (n, d) float16, `coords` (n, 2) float32 in micrometres, parameters as attributes of the file.
- ECTIL: `features` (n, d), `coordinates` (n, 2) and `regions` (n, 5; x, y, width, height, mpp) in px at the tiles' mpp.

All that a store says of itself goes along as attributes of the file that begin with `slidestudy_`, and the tissue
fractions as the dataset `slidestudy_tissue_fraction`; the tools pass over what they do not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from slidestudy.errors import Problem, StudyError
from slidestudy.features.store import FeatureStore, read_attributes, read_features
from slidestudy.files import atomic_path

PREFIX = "slidestudy_"
FRACTION = PREFIX + "tissue_fraction"
UNIT = PREFIX + "coords_unit"
STAMP_LAYOUT = "2.1.0"
"""The version of STAMP that named its attributes as here; a newer one would be refused by an older STAMP."""
TENSORS = "pt_files"
"""The folder in which CLAM looks for tensors."""
MPP_AT_1X = 10.0
"""By the convention that TRIDENT's magnifications follow: 20x is 0.5 um/px."""


class Format(StrEnum):
    """The tools whose files can be written."""

    TRIDENT = "trident"
    CLAM = "clam"
    STAMP = "stamp"
    ECTIL = "ectil"


class Unit(StrEnum):
    """What coordinates are measured in."""

    LEVEL0 = "px"
    """Pixels of level 0."""
    MICROMETRES = "um"
    TILE = "tile-px"
    """Pixels at the resolution of the tiles."""


def export_stores(
    paths: Iterable[str | os.PathLike[str]], tool: Format, folder: str | os.PathLike[str]
) -> tuple[list[Path], list[str]]:
    """Writes `<slide>.h5` for each store, atomically. Tiles that could not be decoded are left out.

    CLAM's training reads `pt_files/<slide>.pt`, which is written as well.

    Args:
        paths: Feature stores.
        tool: Whose layout.
        folder: Where to write.

    Returns:
        The H5 files written, and the ids of the slides without tiles, which get none.

    Raises:
        StudyError: A store is damaged, or two are of slides of the same name.
    """
    stores = [Path(path) for path in paths]
    slides = {path: str(read_attributes(path).get("slide_id", path.stem)) for path in stores}
    _refuse_equal_names(slides)
    written, empty = [], []
    for path in stores:
        store = read_features(path)
        if not len(store.coords):
            empty.append(slides[path])
            continue
        target = Path(folder) / f"{slides[path]}.h5"
        _refuse_lacking(store, path)
        with atomic_path(target) as partial, h5py.File(partial, "w") as file:
            unit = LAYOUTS[tool](file, store, str(folder))
            _write_provenance(file, store, unit)
        if tool is Format.CLAM:
            _write_tensor(Path(folder) / TENSORS / f"{slides[path]}.pt", store)
        written.append(target)
    return written, empty


def _refuse_equal_names(slides: dict[Path, str]) -> None:
    """Refuses slides whose files would overwrite each other."""
    by_name: dict[str, list[Path]] = {}
    for path, slide in slides.items():
        by_name.setdefault(slide, []).append(path)
    problems = [
        Problem(", ".join(map(str, same)), f"are stores of slides of one name, {slide}", "export them to two folders")
        for slide, same in by_name.items()
        if len(same) > 1
    ]
    if problems:
        raise StudyError.of(problems)


def _refuse_lacking(store: FeatureStore, path: Path) -> None:
    """Refuses a store that does not say what every layout needs."""
    needed = ("slide_mpp", "tile_size_px", "tile_size_level0", "target_mpp", "encoder")
    missing = [name for name in needed if name not in store.attributes]
    if missing:
        raise StudyError(f"does not say its {', '.join(missing)}", str(path), "remove it; it will be made anew")


def _write_trident(file: h5py.File, store: FeatureStore, folder: str) -> Unit:
    """TRIDENT's layout; magnifications are exact ratios of resolutions, not whole numbers."""
    stated = store.attributes
    file.create_dataset("features", data=store.features.astype(np.float32))
    coords = file.create_dataset("coords", data=store.coords.astype(np.int64))
    coords.attrs.update(
        {
            "patch_size": int(stated["tile_size_px"]),
            "patch_size_level0": round(stated["tile_size_level0"]),
            "level0_magnification": MPP_AT_1X / stated["slide_mpp"]["value"],
            "target_magnification": MPP_AT_1X / stated["target_mpp"],
            "overlap": 0,
            "name": stated["slide_id"],
            "savetodir": folder,
        }
    )
    return Unit.LEVEL0


def _write_clam(file: h5py.File, store: FeatureStore, folder: str) -> Unit:
    """CLAM's layout."""
    file.create_dataset("features", data=store.features.astype(np.float32))
    file.create_dataset("coords", data=store.coords.astype(np.int64))
    return Unit.LEVEL0


def _write_tensor(target: Path, store: FeatureStore) -> None:
    """The features alone, float32 (n, d), as CLAM saves them."""
    # Imported here, since torch takes seconds to load and H5 files do not need it.
    import torch

    with atomic_path(target) as partial:
        torch.save(torch.from_numpy(store.features.astype(np.float32)), partial)


def _write_stamp(file: h5py.File, store: FeatureStore, folder: str) -> Unit:
    """STAMP's layout."""
    stated = store.attributes
    file.create_dataset("feats", data=store.features)
    file.create_dataset("coords", data=(store.coords * float(stated["slide_mpp"]["value"])).astype(np.float32))
    file.attrs.update(
        {
            "stamp_version": STAMP_LAYOUT,
            "extractor": stated["encoder"]["name"],
            "unit": "um",
            "tile_size_um": float(stated["tile_size_px"] * stated["target_mpp"]),
            "tile_size_px": int(stated["tile_size_px"]),
            "feat_type": "tile",
        }
    )
    return Unit.MICROMETRES


def _write_ectil(file: h5py.File, store: FeatureStore, folder: str) -> Unit:
    """ECTIL's layout."""
    stated = store.attributes
    size, mpp = float(stated["tile_size_px"]), float(stated["target_mpp"])
    coords = store.coords * (float(stated["slide_mpp"]["value"]) / mpp)
    sides = np.broadcast_to([size, size, mpp], (len(coords), 3))
    file.create_dataset("features", data=store.features.astype(np.float32))
    file.create_dataset("coordinates", data=coords)
    file.create_dataset("regions", data=np.concatenate([coords, sides], axis=1))
    file.create_dataset("mpp", data=np.full(len(coords), mpp))
    file.attrs["slide_id"] = stated["slide_id"]
    return Unit.TILE


LAYOUTS: dict[Format, Callable[[h5py.File, FeatureStore, str], Unit]] = {
    Format.TRIDENT: _write_trident,
    Format.CLAM: _write_clam,
    Format.STAMP: _write_stamp,
    Format.ECTIL: _write_ectil,
}


def _write_provenance(file: h5py.File, store: FeatureStore, unit: Unit) -> None:
    """Adds what slidestudy knows; mappings as JSON text, unknown values not at all."""
    file.create_dataset(FRACTION, data=store.tissue_fraction)
    file.attrs[UNIT] = str(unit)
    for name, value in store.attributes.items():
        if value is not None:
            file.attrs[PREFIX + name] = json.dumps(value) if isinstance(value, dict | list) else value


def read_provenance(file: h5py.File) -> dict[str, Any]:
    """What a file says that slidestudy wrote into it; empty for any other file."""
    found: dict[str, Any] = {}
    for name, value in file.attrs.items():
        if name.startswith(PREFIX) and name != UNIT:
            plain = value.item() if isinstance(value, np.generic) else value
            is_json = isinstance(plain, str) and plain[:1] in ("{", "[")
            found[name.removeprefix(PREFIX)] = json.loads(plain) if is_json else plain
    return found if "format" in found else {}
