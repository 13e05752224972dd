"""Files of other tools' patch features in memory, with what they say of themselves."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.interchange import FRACTION, UNIT, Unit, read_provenance
from slidestudy.import_files import TENSOR, coordinates_beside

T = TypeVar("T")


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


def read_bag(path: str | os.PathLike[str], coords: str | os.PathLike[str] | None = None) -> Bag:
    """Reads a file of one slide's patch features.

    Args:
        path: An H5 file, or a tensor as CLAM saves it (.pt).
        coords: For a tensor, the H5 file with its coordinates; by default CLAM's, `../h5_files/<slide>.h5`.

    Raises:
        StudyError: It is none, its layout is unknown, or a tensor and its coordinates do not belong together.
    """
    where = os.fspath(path)
    if Path(path).suffix != TENSOR:
        if coords is not None:
            remedy = "leave out the coordinates"
            raise StudyError("is no tensor (.pt): an H5 file has its own coordinates", where, remedy)
        return _open(where, lambda file: _read(file, where))
    features = _read_tensor(where)
    beside = coordinates_beside(Path(path)) if coords is None else Path(coords)
    if not beside.is_file():
        what = f"has no coordinates: {beside} does not exist"
        raise StudyError(what, where, "state the H5 file with the coordinates (--coords)")
    return _open(os.fspath(beside), lambda file: _read(file, os.fspath(beside), features, where))


def provenance_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What slidestudy wrote into an H5 file, without reading its features; empty for any other file.

    Raises:
        StudyError: It is no H5 file.
    """
    return _open(os.fspath(path), read_provenance)


def _open(where: str, read: Callable[[h5py.File], T]) -> T:
    """What a function reads of an H5 file."""
    try:
        with h5py.File(where) as file:
            return read(file)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise StudyError(f"cannot be read ({error})", where, "name an H5 file of patch features") from None


def _read_tensor(where: str) -> NDArray[Any]:
    """A tensor (n, dim) as an array; what a file would run as code when it is loaded is refused."""
    # Imported here, since torch takes seconds to load and H5 files do not need it.
    import torch

    remedy = "name a tensor of one slide's patch features, (n, dim)"
    try:
        tensor = torch.load(where, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StudyError(f"cannot be read ({reason})", where, remedy) from None
    if not isinstance(tensor, torch.Tensor):
        raise StudyError(f"holds a {type(tensor).__name__}, not a tensor", where, remedy)
    if tensor.ndim != 2 or not tensor.is_floating_point():
        shape = tuple(tensor.shape)
        raise StudyError(f"holds a tensor of {tensor.dtype} and shape {shape}, not of features", where, remedy)
    # NumPy has no bfloat16.
    exact: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return exact


def _read(file: h5py.File, where: str, tensor: NDArray[Any] | None = None, tensor_file: str = "") -> Bag:
    """The content of an open file; with the features of a tensor, where that has them."""
    feature_name = next((name for name in ("features", "feats") if name in file), None)
    coords_name = next((name for name in ("coords", "coordinates") if name in file), None)
    if coords_name is None or (feature_name is None and tensor is None):
        what = f"has no features and coordinates, only {', '.join(file) or 'nothing'}"
        raise StudyError(what, where, "name an H5 file of patch features")
    coords = file[coords_name][...]
    features = file[feature_name][...] if feature_name is not None else tensor
    if tensor is not None:
        _check_pair(tensor, coords, features, where, tensor_file)
        features = tensor
    assert features is not None
    count = len(features)
    if features.ndim != 2 or coords.shape != (count, 2):
        what = f"{feature_name} has shape {features.shape} and {coords_name} {coords.shape}"
        raise StudyError(f"{what}, not (n, dim) and (n, 2)", where, "name a file of one slide's patch features")
    provenance = read_provenance(file)
    stated, extent = _stated(file, file[coords_name], provenance, where)
    fraction = file[FRACTION][...] if FRACTION in file else np.full(count, np.nan, np.float32)
    return Bag(features, coords, fraction, replace(stated, dim=features.shape[1]), extent, provenance)


def _check_pair(
    tensor: NDArray[Any], coords: NDArray[Any], features: NDArray[Any] | None, coords_file: str, tensor_file: str
) -> None:
    """Refuses a tensor that does not belong to the H5 file with the coordinates."""
    remedy = "name the tensor and the coordinates of one run of the tool"
    if len(coords) != len(tensor):
        what = f"has {len(tensor)} rows of features, but {coords_file} has {len(coords)} coordinates"
        raise StudyError(what, tensor_file, remedy)
    if features is None or features is tensor:
        return
    # Either may have been saved in half precision.
    if features.shape != tensor.shape or not np.allclose(features, tensor, rtol=0.01, atol=1e-3, equal_nan=True):
        what = f"has other features than {coords_file}, so that its rows may have other coordinates"
        raise StudyError(what, tensor_file, remedy)


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
    if {"patch_size", "downsample"} <= set(coords.attrs):
        # CLAM cuts patches from one level of the pyramid; what size they have when encoded it does not say.
        side = float(coords.attrs["patch_size"]) * float(np.mean(coords.attrs["downsample"]))
        return Statement(unit=Unit.LEVEL0), side
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
