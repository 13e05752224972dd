"""Feature stores from other tools' files. What a file does not say must be stated; nothing is guessed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Problem, StudyError
from slidestudy.features.extraction import recipe_of
from slidestudy.features.foreign_files import Bag, Known, Statement, read_bag
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.interchange import Unit
from slidestudy.features.store import write_features
from slidestudy.features.verification import RECIPE_PARTS, row_keys
from slidestudy.files import digest, file_digest, versions

TOLERANCE_PX = 1.5
"""Level-0 px by which rounded coordinates of neighbours may miss a tile's side."""
UNKNOWN = "not stated"
OPTIONS = {
    "encoder": "--encoder",
    "dim": "--dim",
    "slide_mpp": "--slide-mpp",
    "tile_size": "--tile-size",
    "tile_mpp": "--tile-mpp",
    "unit": "--unit",
}
"""Field of a statement -> where the user of the command line says it."""


def agree(bag: Bag, user: Statement, where: str, places: Mapping[str, str] = OPTIONS) -> Known:
    """What is known of a bag from the file and the user together.

    Args:
        bag: The file's content.
        user: What the user says.
        where: The file.
        places: Field of a statement -> where the user says it, for the messages.

    Returns:
        A statement without gaps.

    Raises:
        StudyError: They contradict each other, or neither says something; all such points together.
    """
    problems = []
    known: dict[str, Any] = {}
    for name, option in places.items():
        in_file, by_user = getattr(bag.stated, name), getattr(user, name)
        if in_file is not None and by_user is not None and not _same(in_file, by_user):
            what = f"has {name} {in_file}, but {option} is {by_user}"
            problems.append(Problem(where, what, f"correct {option}, or name another file"))
        known[name] = by_user if in_file is None else in_file
    mpp, size, side = known["slide_mpp"], known["tile_size"], bag.tile_size_level0
    if known["tile_mpp"] is None and side is not None and mpp and size:
        known["tile_mpp"] = side * mpp / size
    for name, value in known.items():
        if value is None:
            problems.append(Problem(where, f"does not say its {name}", f"state it with {places[name]}"))
        elif not isinstance(value, str) and not 0 < value < np.inf:
            problems.append(Problem(where, f"{name} is {value}, not a positive number", f"correct {places[name]}"))
    if problems:
        raise StudyError.of(problems)
    agreed = Known(**known)
    if side is not None and abs(agreed.extent - side) > TOLERANCE_PX:
        what = f"its tiles are {side:g} px at level 0, but {size} px at {agreed.tile_mpp} um/px"
        what += f" on a slide of {mpp} um/px are {agreed.extent:g}"
        raise StudyError(what, where, f"correct {places['slide_mpp']} or {places['tile_mpp']}")
    return agreed


def _same(first: Any, second: Any) -> bool:
    """Whether two statements say the same; resolutions that differ by less than a thousandth do."""
    if isinstance(first, float) or isinstance(second, float):
        return bool(np.isclose(first, second, rtol=1e-3, atol=0))
    return bool(first == second)


def level0_coords(
    coords: NDArray[Any], known: Known, where: str, places: Mapping[str, str] = OPTIONS, *, check_spacing: bool
) -> NDArray[np.int32]:
    """Coordinates in level-0 px.

    Args:
        coords: (n, 2) in the unit stated.
        known: The unit and resolutions.
        where: The file.
        places: Field of a statement -> where the user says it, for the messages.
        check_spacing: Whether neighbours in a row must be a tile's side apart.

    Returns:
        int32 (n, 2).

    Raises:
        StudyError: They cannot be coordinates of such tiles.
    """
    unit = places["unit"]
    mpp = {Unit.LEVEL0: known.slide_mpp, Unit.MICROMETRES: 1.0, Unit.TILE: known.tile_mpp}[known.unit]
    exact = coords.astype(np.float64) * (mpp / known.slide_mpp)
    if not np.isfinite(exact).all() or (exact < -0.5).any() or (exact > np.iinfo(np.int32).max).any():
        raise StudyError("has coordinates that are negative, too large or no numbers", where, f"check {unit}")
    pixels = np.floor(exact + 0.5).astype(np.int32)
    keys = np.sort(row_keys(pixels))
    if (np.diff(keys) == 0).any():
        raise StudyError("has coordinates that are there twice", where, f"check {unit}; extract each tile once")
    steps = np.diff(keys)[np.diff(keys >> 32) == 0]
    if check_spacing and len(steps):
        values, counts = np.unique(steps, return_counts=True)
        usual = int(values[counts.argmax()])
        if abs(usual - known.extent) > TOLERANCE_PX:
            what = f"most neighbours are {usual} level-0 px apart, but a tile's side is {known.extent:g}"
            remedy = f"check {unit}, {places['slide_mpp']}, {places['tile_size']} and {places['tile_mpp']}"
            raise StudyError(what, where, remedy)
    return pixels


def import_features(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    user: Statement,
    cohort: str | None = None,
    patient: str | None = None,
    coords: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes the feature store `<slide>.zarr` of a file of patch features.

    Args:
        path: An H5 file, or a tensor of CLAM (.pt); its name is the slide's id where it does not say one.
        folder: Where to write.
        user: What the user says of it.
        cohort: The slide's cohort, where the file does not say it.
        patient: Its patient; the slide's id where neither says it.
        coords: For a tensor, the H5 file with its coordinates, or a folder of them, `<slide>.h5`; CLAM's where None.

    Returns:
        The store's folder.

    Raises:
        StudyError: Something is not known, contradictory or not usable; or the store is already there.
    """
    where = os.fspath(path)
    if coords is not None and Path(coords).is_dir():
        coords = Path(coords) / f"{Path(path).stem}.h5"
    bag = read_bag(path, coords)
    known = agree(bag, user, where)
    pixels = level0_coords(bag.coords, known, where, check_spacing=not bag.provenance)
    order = np.argsort(row_keys(pixels))
    attributes = _own_attributes(bag, where) if bag.provenance else _new_attributes(bag, known)
    slide = bag.provenance.get("slide_id", Path(path).stem)
    attributes |= {
        "slide_id": slide,
        "patient_id": _whose("patient", bag, patient, where) or slide,
        "cohort": _whose("cohort", bag, cohort, where),
        "n_tiles": len(pixels),
        "n_unreadable": 0,
        "imported": {"file": Path(path).name, "sha256": file_digest(path), "software": versions("h5py", "zarr")},
    }
    if attributes["cohort"] is None:
        raise StudyError("does not say its cohort", where, "state it with --cohort")
    target = Path(folder) / f"{slide}.zarr"
    if target.exists():
        raise StudyError(f"its store is already there ({target})", where, "remove that, or write to another folder")
    features = bag.features[order].astype(np.float32)
    write_features(target, features, pixels[order], bag.fraction[order], np.ones(len(pixels), bool), attributes)
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
