"""Feature stores from other tools' H5 files. What a file does not say must be stated; nothing is guessed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Problem, StudyError
from slidestudy.features.extraction import recipe_of
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.interchange import FRACTION, UNIT, Unit, read_provenance
from slidestudy.features.store import write_features
from slidestudy.features.verification import RECIPE_PARTS, row_keys
from slidestudy.files import digest, file_digest, versions

TOLERANCE_PX = 1.5
"""Level-0 px by which rounded coordinates of neighbours may miss a tile's side."""
UNKNOWN = "not stated"


@dataclass(frozen=True)
class Statement:
    """What a file, or the user, says of a bag of features; None where it is not said.

    Attributes:
        encoder: The encoder's name.
        dim: Length of a feature vector.
        slide_mpp: The slide's resolution at level 0, um/px.
        tile_size: Tile side, px at `tile_mpp`.
        tile_mpp: Resolution of the tiles, um/px.
        unit: What coordinates are measured in.
    """

    encoder: str | None = None
    dim: int | None = None
    slide_mpp: float | None = None
    tile_size: int | None = None
    tile_mpp: float | None = None
    unit: Unit | None = None


@dataclass(frozen=True)
class Known:
    """A statement without gaps; fields as there."""

    encoder: str
    dim: int
    slide_mpp: float
    tile_size: int
    tile_mpp: float
    unit: Unit

    @property
    def extent(self) -> float:
        """Side of a tile in level-0 px."""
        return self.tile_size * self.tile_mpp / self.slide_mpp


@dataclass(frozen=True)
class Bag:
    """What a file holds.

    Attributes:
        features: (n, dim).
        coords: (n, 2), in the unit stated.
        fraction: Tissue fractions, float32 (n,); NaN where the file has none.
        stated: What the file says.
        tile_size_level0: The tile's side in level-0 px, where the file says it.
        provenance: What slidestudy wrote into it.
    """

    features: NDArray[Any]
    coords: NDArray[Any]
    fraction: NDArray[np.float32]
    stated: Statement
    tile_size_level0: float | None
    provenance: dict[str, Any]


def read_bag(path: str | os.PathLike[str]) -> Bag:
    """Reads an H5 file of features.

    Args:
        path: The file.

    Raises:
        StudyError: It is none, or its layout is unknown.
    """
    try:
        with h5py.File(path) as file:
            return _read(file, os.fspath(path))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(f"cannot be read ({error})", str(path), "name an H5 file of patch features") from None


def _read(file: h5py.File, where: str) -> Bag:
    """The content of an open file."""
    feature_name = next((name for name in ("features", "feats") if name in file), None)
    coords_name = next((name for name in ("coords", "coordinates") if name in file), None)
    if feature_name is None or coords_name is None:
        what = f"has no features and coordinates, only {', '.join(file) or 'nothing'}"
        raise StudyError(what, where, "name an H5 file of patch features")
    features, coords = file[feature_name][...], file[coords_name][...]
    count = len(features)
    if features.ndim != 2 or coords.shape != (count, 2):
        what = f"{feature_name} has shape {features.shape} and {coords_name} {coords.shape}"
        raise StudyError(f"{what}, not (n, dim) and (n, 2)", where, "name a file of one slide's patch features")
    provenance = read_provenance(file)
    stated, extent = _stated(file, file[coords_name], provenance, where)
    fraction = file[FRACTION][...] if FRACTION in file else np.full(count, np.nan, np.float32)
    return Bag(features, coords, fraction, replace(stated, dim=features.shape[1]), extent, provenance)


def _stated(
    file: h5py.File, coords: h5py.Dataset, provenance: dict[str, Any], where: str
) -> tuple[Statement, float | None]:
    """What the attributes of a file say, by whichever tool's names; and the tile's side in level-0 px."""
    if provenance:
        size, mpp = int(provenance["tile_size_px"]), float(provenance["target_mpp"])
        slide_mpp, name = float(provenance["slide_mpp"]["value"]), provenance["encoder"]["name"]
        unit = Unit(file.attrs[UNIT])
        return Statement(name, None, slide_mpp, size, mpp, unit), float(provenance["tile_size_level0"])
    if "unit" in file.attrs:
        return _stated_by_stamp(dict(file.attrs), where), None
    if "patch_size_level0" in coords.attrs:
        if coords.attrs.get("overlap", 0) != 0:
            raise StudyError("its tiles overlap", where, "extract features of tiles without overlap")
        patch = int(coords.attrs["patch_size"]) if "patch_size" in coords.attrs else None
        return Statement(tile_size=patch, unit=Unit.LEVEL0), float(coords.attrs["patch_size_level0"])
    if "regions" in file and len(file["regions"]):
        side, mpp = (float(value) for value in file["regions"][0][[2, 4]])
        return Statement(tile_size=round(side), tile_mpp=mpp, unit=Unit.TILE), None
    return Statement(), None


def _stated_by_stamp(attributes: dict[str, Any], where: str) -> Statement:
    """What STAMP's attributes say."""
    if attributes["unit"] != "um":
        raise StudyError(f"its unit is {attributes['unit']!r}, not 'um'", where, "export it with STAMP 2.1 or later")
    size = int(attributes["tile_size_px"]) if "tile_size_px" in attributes else None
    side = attributes.get("tile_size_um", attributes.get("tile_size"))
    mpp = float(side) / size if side is not None and size else None
    name = str(attributes["extractor"]) if "extractor" in attributes else None
    return Statement(encoder=name, tile_size=size, tile_mpp=mpp, unit=Unit.MICROMETRES)


OPTIONS = {
    "encoder": "--encoder",
    "dim": "--dim",
    "slide_mpp": "--slide-mpp",
    "tile_size": "--tile-size",
    "tile_mpp": "--tile-mpp",
    "unit": "--unit",
}


def agree(bag: Bag, user: Statement, where: str) -> Known:
    """What is known of a bag from the file and the user together.

    Args:
        bag: The file's content.
        user: What the user says.
        where: The file.

    Returns:
        A statement without gaps.

    Raises:
        StudyError: They contradict each other, or neither says something; all such points together.
    """
    problems = []
    known: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        in_file, by_user = getattr(bag.stated, name), getattr(user, name)
        if in_file is not None and by_user is not None and not _same(in_file, by_user):
            what = f"has {name} {in_file}, but {option} is {by_user}"
            problems.append(Problem(where, what, "correct the option, or name another file"))
        known[name] = by_user if in_file is None else in_file
    mpp, size, side = known["slide_mpp"], known["tile_size"], bag.tile_size_level0
    if known["tile_mpp"] is None and side is not None and mpp and size:
        known["tile_mpp"] = side * mpp / size
    for name, value in known.items():
        if value is None:
            problems.append(Problem(where, f"does not say its {name}", f"state it with {OPTIONS[name]}"))
        elif not isinstance(value, str) and not 0 < value < np.inf:
            problems.append(Problem(where, f"{name} is {value}, not a positive number", f"correct {OPTIONS[name]}"))
    if problems:
        raise StudyError.of(problems)
    agreed = Known(**known)
    if side is not None and abs(agreed.extent - side) > TOLERANCE_PX:
        what = f"its tiles are {side:g} px at level 0, but {size} px at {agreed.tile_mpp} um/px"
        what += f" on a slide of {mpp} um/px are {agreed.extent:g}"
        raise StudyError(what, where, "correct --slide-mpp or --tile-mpp")
    return agreed


def _same(first: Any, second: Any) -> bool:
    """Whether two statements say the same; resolutions that differ by less than a thousandth do."""
    if isinstance(first, float) or isinstance(second, float):
        return bool(np.isclose(first, second, rtol=1e-3, atol=0))
    return bool(first == second)


def level0_coords(coords: NDArray[Any], known: Known, where: str, *, check_spacing: bool) -> NDArray[np.int32]:
    """Coordinates in level-0 px.

    Args:
        coords: (n, 2) in the unit stated.
        known: The unit and resolutions.
        where: The file.
        check_spacing: Whether neighbours in a row must be a tile's side apart.

    Returns:
        int32 (n, 2).

    Raises:
        StudyError: They cannot be coordinates of such tiles.
    """
    mpp = {Unit.LEVEL0: known.slide_mpp, Unit.MICROMETRES: 1.0, Unit.TILE: known.tile_mpp}[known.unit]
    exact = coords.astype(np.float64) * (mpp / known.slide_mpp)
    if not np.isfinite(exact).all() or (exact < -0.5).any() or (exact > np.iinfo(np.int32).max).any():
        raise StudyError("has coordinates that are negative, too large or no numbers", where, "check --unit")
    pixels = np.floor(exact + 0.5).astype(np.int32)
    keys = np.sort(row_keys(pixels))
    if (np.diff(keys) == 0).any():
        raise StudyError("has coordinates that are there twice", where, "check --unit; extract each tile once")
    steps = np.diff(keys)[np.diff(keys >> 32) == 0]
    if check_spacing and len(steps):
        values, counts = np.unique(steps, return_counts=True)
        usual = int(values[counts.argmax()])
        if abs(usual - known.extent) > TOLERANCE_PX:
            what = f"most neighbours are {usual} level-0 px apart, but a tile's side is {known.extent:g}"
            raise StudyError(what, where, "check --unit, --slide-mpp, --tile-size and --tile-mpp")
    return pixels


def import_features(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    user: Statement,
    cohort: str | None = None,
    patient: str | None = None,
) -> Path:
    """Writes the feature store `<slide>.zarr` of an H5 file.

    Args:
        path: The file; its name is the slide's id where it does not say one.
        folder: Where to write.
        user: What the user says of it.
        cohort: The slide's cohort, where the file does not say it.
        patient: Its patient; the slide's id where neither says it.

    Returns:
        The store's folder.

    Raises:
        StudyError: Something is not known, contradictory or not usable; or the store is already there.
    """
    where = os.fspath(path)
    bag = read_bag(path)
    known = agree(bag, user, where)
    coords = level0_coords(bag.coords, known, where, check_spacing=not bag.provenance)
    order = np.argsort(row_keys(coords))
    attributes = _own_attributes(bag, where) if bag.provenance else _new_attributes(bag, known)
    slide = bag.provenance.get("slide_id", Path(path).stem)
    attributes |= {
        "slide_id": slide,
        "patient_id": _whose("patient", bag, patient, where) or slide,
        "cohort": _whose("cohort", bag, cohort, where),
        "n_tiles": len(coords),
        "n_unreadable": 0,
        "imported": {"file": Path(path).name, "sha256": file_digest(path), "software": versions("h5py", "zarr")},
    }
    if attributes["cohort"] is None:
        raise StudyError("does not say its cohort", where, "state it with --cohort")
    target = Path(folder) / f"{slide}.zarr"
    if target.exists():
        raise StudyError(f"its store is already there ({target})", where, "remove that, or write to another folder")
    features = bag.features[order].astype(np.float32)
    write_features(target, features, coords[order], bag.fraction[order], np.ones(len(coords), bool), attributes)
    return target


def _whose(what: str, bag: Bag, stated: str | None, where: str) -> str | None:
    """The patient or the cohort of a slide, as the file or the user says."""
    in_file = bag.provenance.get(f"{what}_id" if what == "patient" else what)
    if in_file is not None and stated is not None and in_file != stated:
        raise StudyError(
            f"has {what} {in_file}, but --{what} is {stated}", where, "correct the option, or leave it out"
        )
    return stated if in_file is None else str(in_file)


def _own_attributes(bag: Bag, where: str) -> dict[str, Any]:
    """Attributes of a store that slidestudy exported."""
    attributes = {name: value for name, value in bag.provenance.items() if name not in ("checksum", "format")}
    made_of = {name: attributes.get(name) for name in RECIPE_PARTS}
    if attributes.get("recipe") != digest(made_of) or attributes["encoder"]["dim"] != bag.features.shape[1]:
        what = "its slidestudy attributes contradict each other, or its features"
        raise StudyError(what, where, "export it anew")
    return {"reason": None, **attributes}


def _new_attributes(bag: Bag, known: Known) -> dict[str, Any]:
    """Attributes of a store of another tool's features."""
    precision = str(bag.features.dtype)
    identity = EncoderIdentity(known.encoder, "imported", UNKNOWN, known.dim, UNKNOWN, UNKNOWN, precision, {})
    recipe = recipe_of(identity, {"size": known.tile_size, "mpp": known.tile_mpp, "min_tissue": None})
    recipe["normaliser"] = UNKNOWN
    mpp = known.slide_mpp
    return {
        "status": "admitted",
        "reason": None,
        "fingerprint": None,
        "slide_mpp": {"value": mpp, "source": "stated at import", "x": mpp, "y": mpp},
        "reader": None,
        "tile_size_px": known.tile_size,
        "tile_size_level0": known.extent,
        "target_mpp": known.tile_mpp,
        **recipe,
        "recipe": digest(recipe),
        "software": {},
    }
