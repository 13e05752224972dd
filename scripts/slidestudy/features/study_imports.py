"""Other tools' features in a study: the store of each slide, and early word of files that cannot be used.

What a study says holds for all slides of an encoder, so that they share one recipe: its name, dim and tiles, and what
the first files that were written by slidestudy say of weights and preprocessing. The type of numbers in which a file
happens to keep its features is not part of the recipe: it says how the file was saved, not how the encoder computed,
and a store holds float16 in any case. A file that contradicts any of this costs its slide.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slidestudy.errors import Problem, Reason, SlideError, StudyError
from slidestudy.features.extraction import recipe_of
from slidestudy.features.foreign_files import Bag, Known, Statement, provenance_of, read_bag
from slidestudy.features.identity import EncoderIdentity
from slidestudy.features.importing import UNKNOWN, agree, level0_coords
from slidestudy.features.interchange import Unit
from slidestudy.features.store import write_features
from slidestudy.features.verification import row_keys
from slidestudy.files import digest, file_digest, versions, write_text_if_changed
from slidestudy.import_files import Source, some_of, source_of
from slidestudy.settings import Config
from slidestudy.yaml_files import dump_yaml

ENCODER_PARTS = ("architecture", "weights", "weights_digest", "precision", "preprocessing")
"""What only a file that slidestudy wrote says of its encoder."""
ASKED = 5
"""Files of an encoder that are asked what they say of its weights."""
Record = Mapping[str, Any]
Entries = Mapping[tuple[str, str], Config]


def publish_imports(config: Config, entries: Entries, results: str | os.PathLike[str]) -> None:
    """Writes what the imports depend on besides the files themselves; each only if its content changed.

    `settings/imports/<encoder>/<cohort>/<slide>.json` says which files a slide's features come from and which of them
    are missing, so that a file that appears later is imported whatever its time stamp;
    `settings/imports/<encoder>/stated.yaml` what the files say of the encoder.

    Args:
        config: The configuration, complete, its input paths absolute.
        entries: `(cohort, slide_id)` -> the slide's row.
        results: The output folder.
    """
    for name, options in config["features"]["import"].items():
        folder = Path(results) / "settings" / "imports" / name
        sources = {key: source_of(options, entry) for key, entry in entries.items()}
        for (cohort, slide), source in sources.items():
            text = json.dumps(source_record(source), indent=2) + "\n"
            write_text_if_changed(folder / cohort / f"{slide}.json", text)
        write_text_if_changed(folder / "stated.yaml", dump_yaml(stated_by(sources.values())))


def source_record(source: Source) -> dict[str, Any]:
    """The JSON form of a slide's files: `features coords missing`."""
    return {
        "features": str(source.features),
        "coords": None if source.coords is None else str(source.coords),
        "missing": [str(path) for path in source.missing],
    }


def stated_by(sources: Iterable[Source]) -> dict[str, Any]:
    """What the first files that say it say of their encoder: `encoder min_tissue normaliser`; empty where none does.

    Args:
        sources: The files of slides; those that are missing or cannot be read are passed over.
    """
    asked = 0
    for source in sources:
        if source.missing:
            continue
        asked += 1
        try:
            said = provenance_of(source.coords or source.features)
            if said:
                return _said(said)
        except (StudyError, LookupError, TypeError, AttributeError):
            # A file that cannot be read costs its slide, when that is imported.
            pass
        if asked == ASKED:
            break
    return {}


def _said(provenance: Record) -> dict[str, Any]:
    """The parts of a recipe that a study does not say itself."""
    encoder = {key: provenance["encoder"][key] for key in ENCODER_PARTS}
    tiles, normaliser = provenance["tiles"], provenance["normaliser"]
    return {"encoder": encoder, "min_tissue": tiles["min_tissue"], "normaliser": normaliser}


def imported_recipe(settings: Config, stated: Record) -> dict[str, Any]:
    """The recipe of an encoder's imported features, the same for all slides.

    Args:
        settings: `settings/features.<encoder>.yaml`.
        stated: `stated.yaml`.
    """
    encoder, tiles, said = settings["encoder"], settings["tiles"], stated.get("encoder", {})
    identity = EncoderIdentity(
        name=encoder["name"],
        backend="imported",
        architecture=said.get("architecture") or encoder.get("architecture") or UNKNOWN,
        dim=encoder["dim"],
        weights=said.get("weights", UNKNOWN),
        weights_digest=said.get("weights_digest", UNKNOWN),
        precision=said.get("precision", UNKNOWN),
        preprocessing=said.get("preprocessing", {}),
    )
    recipe = recipe_of(identity, {"size": tiles["size"], "mpp": tiles["mpp"], "min_tissue": stated.get("min_tissue")})
    return {**recipe, "normaliser": stated.get("normaliser", UNKNOWN)}


@dataclass(frozen=True)
class _Imported:
    """The tiles of a slide as a store holds them."""

    features: NDArray[np.float32]
    coords: NDArray[np.int32]
    fraction: NDArray[np.float32]
    known: Known | None = None
    provenance: Record | None = None


def import_slide(
    entry: Record,
    inspection: Record,
    tissue: Record | None,
    source: Record,
    settings: Config,
    stated: Record,
    output: str | os.PathLike[str],
) -> dict[str, Any]:
    """Writes a slide's feature store from another tool's file; where that cannot be used, an empty one that says why.

    Args:
        entry: The slide's row.
        inspection: Its inspection record.
        tissue: Its record of the tissue stage; None for a slide without a file.
        source: Its files, see `source_record`.
        settings: `settings/features.<encoder>.yaml`.
        stated: `stated.yaml`.
        output: The store's folder.

    Returns:
        The store's attributes.
    """
    recipe, reason = imported_recipe(settings, stated), None
    empty = np.zeros((0, recipe["encoder"]["dim"]), np.float32)
    found = _Imported(empty, np.zeros((0, 2), np.int32), np.zeros(0, np.float32))
    if tissue is not None and tissue["status"] == "excluded":
        reason = tissue["reason"]
    else:
        try:
            found = _import(entry, inspection, source, settings, recipe)
        except SlideError as error:
            reason = {"code": str(error.reason), "message": error.message}
    attributes = _attributes(entry, inspection, source, settings, recipe, found, reason)
    readable = np.ones(len(found.coords), bool)
    write_features(output, found.features, found.coords, found.fraction, readable, attributes)
    return attributes


def _attributes(
    entry: Record,
    inspection: Record,
    source: Record,
    settings: Config,
    recipe: dict[str, Any],
    found: _Imported,
    reason: Record | None,
) -> dict[str, Any]:
    """What the store says of itself."""
    known, tiles = found.known, settings["tiles"]
    mpp = inspection["mpp"]
    if mpp is None and known is not None:
        said = bool(found.provenance)
        mpp = {"value": known.slide_mpp, "source": "file of features" if said else "stated at import"}
        mpp |= {"x": known.slide_mpp, "y": known.slide_mpp}
    return {
        **{key: entry[key] for key in ("slide_id", "patient_id", "cohort")},
        "status": "excluded" if reason else "admitted",
        "reason": reason,
        "fingerprint": inspection["fingerprint"] or (found.provenance or {}).get("fingerprint"),
        "slide_mpp": mpp,
        "reader": None,
        "tile_size_px": tiles["size"],
        "tile_size_level0": known.extent if known else None,
        "target_mpp": tiles["mpp"],
        **recipe,
        "recipe": digest(recipe),
        "software": versions("h5py", "zarr", *(("torch",) if source["coords"] else ())),
        "n_tiles": len(found.coords),
        "n_unreadable": 0,
        "imported": _origin(source),
    }


def _origin(source: Record) -> dict[str, Any]:
    """The files that features come from, by name and digest; None for one that is missing."""
    files = [Path(source[key]) for key in ("features", "coords") if source[key]]
    return {"files": {path.name: file_digest(path) if path.is_file() else None for path in files}}


def _import(entry: Record, inspection: Record, source: Record, settings: Config, recipe: dict[str, Any]) -> _Imported:
    """Reads and checks a slide's features; every reason to do without them is a SlideError."""
    slide, where = str(entry["slide_id"]), str(source["features"])
    if source["missing"]:
        what = f"{', '.join(source['missing'])} does not exist"
        raise SlideError(Reason.FEATURES_MISSING, what, slide, "make it, or correct features.import")
    try:
        bag = read_bag(where, source["coords"])
    except StudyError as error:
        raise _slide_error(Reason.FEATURES_UNUSABLE, error, slide) from None
    with np.errstate(over="ignore"):
        kept = np.isfinite(bag.features.astype(np.float16)).all()
    if not kept:
        what = f"{where} has features that are not finite or too large for float16"
        raise SlideError(Reason.FEATURES_UNUSABLE, what, slide, "extract them anew")
    places = _places(settings["encoder"]["name"])
    try:
        known = agree(bag, _statement(inspection, settings), where, places)
        coords = level0_coords(bag.coords, known, where, places, check_spacing=not bag.provenance)
    except StudyError as error:
        raise _slide_error(Reason.FEATURES_MISMATCH, error, slide) from None
    _check_provenance(bag, entry, inspection, recipe, where)
    least = settings["tiles"]["min_tiles"]
    if len(coords) < least:
        raise SlideError(Reason.TOO_FEW_TILES, f"{where} has {len(coords)} tiles, {least} are needed", slide)
    order = np.argsort(row_keys(coords))
    features = bag.features[order].astype(np.float32)
    return _Imported(features, coords[order], bag.fraction[order], known, bag.provenance)


def _slide_error(reason: Reason, error: StudyError, slide: str) -> SlideError:
    """A mistake in a file as the reason why its slide is lost."""
    said = "; ".join(f"{p.where}: {p.what}" if p.where else p.what for p in error.problems)
    remedies = "; ".join(dict.fromkeys(p.remedy for p in error.problems if p.remedy))
    return SlideError(reason, said, slide, remedies)


def _places(encoder: str) -> dict[str, str]:
    """Field of a statement -> where a study says it."""
    section = f"features.import.{encoder}"
    return {
        "encoder": "the encoder's name in the configuration",
        "dim": f"encoders.{encoder}.dim",
        "slide_mpp": f"{section}.slide_mpp or the column mpp of the slide table",
        "tile_size": "tiles.size",
        "tile_mpp": "tiles.mpp",
        "unit": f"{section}.unit",
    }


def _statement(inspection: Record, settings: Config) -> Statement:
    """What the study says of a slide's file; the slide's own resolution comes before that of the section."""
    options, encoder, tiles = settings["import"], settings["encoder"], settings["tiles"]
    slide_mpp = inspection["mpp"]["value"] if inspection["mpp"] else options.get("slide_mpp")
    unit = Unit(options["unit"]) if "unit" in options else None
    return Statement(encoder["name"], encoder["dim"], slide_mpp, tiles["size"], float(tiles["mpp"]), unit)


def _check_provenance(bag: Bag, entry: Record, inspection: Record, recipe: dict[str, Any], where: str) -> None:
    """Refuses a file that slidestudy wrote of another slide, other weights or another way of making features."""
    if not bag.provenance:
        return
    pairs = [("slide_id", bag.provenance.get("slide_id"), entry["slide_id"])]
    if inspection["fingerprint"]:
        pairs.append(("fingerprint", bag.provenance.get("fingerprint"), inspection["fingerprint"]))
    try:
        said = _said(bag.provenance)
    except (LookupError, TypeError):
        what = f"{where} has incomplete slidestudy attributes"
        raise SlideError(Reason.FEATURES_UNUSABLE, what, str(entry["slide_id"]), "export it anew") from None
    pairs += [(f"encoder.{key}", said["encoder"][key], recipe["encoder"][key]) for key in ENCODER_PARTS]
    pairs.append(("tiles.min_tissue", said["min_tissue"], recipe["tiles"]["min_tissue"]))
    pairs.append(("normaliser", said["normaliser"], recipe["normaliser"]))
    differing = [f"{what} {found}, not {wanted}" for what, found, wanted in pairs if found not in (None, wanted)]
    if differing:
        what = f"{where} has {'; '.join(differing)} as the slide or the encoder's other files"
        raise SlideError(Reason.FEATURES_MISMATCH, what, str(entry["slide_id"]), "export it anew from one study")


@dataclass(frozen=True)
class Survey:
    """What would become of a study's imports.

    Attributes:
        missing: Slides without their files: `encoder cohort slide_id message`.
        unusable: Slides tried whose files cannot be used: likewise.
        problems: Encoders of which every file that was tried cannot be used.
    """

    missing: list[tuple[str, str, str, str]]
    unusable: list[tuple[str, str, str, str]]
    problems: list[Problem]


def survey_imports(
    config: Config, entries: Entries, inspections: Mapping[tuple[str, str], Record], most: int = 3
) -> Survey:
    """Looks for all files of the imports, and reads the first few of each encoder as the workflow will.

    Args:
        config: The configuration, complete, its input paths absolute.
        entries: `(cohort, slide_id)` -> the slide's row.
        inspections: Likewise -> inspection records of the slides that are admitted.
        most: Files of each encoder that are read.
    """
    missing, unusable, problems = [], [], []
    for name, options in config["features"]["import"].items():
        sources = {key: source_of(options, entries[key]) for key in inspections}
        gaps = {key: source.missing for key, source in sources.items() if source.missing}
        missing += [(name, *key, f"{', '.join(map(str, paths))} does not exist") for key, paths in gaps.items()]
        encoder = {"name": name, **config["encoders"][name]}
        settings = {"encoder": encoder, "tiles": config["tiles"], "import": options}
        recipe = imported_recipe(settings, stated_by(sources.values()))
        tried = [key for key in sources if key not in gaps][:most]
        lost = []
        for key in tried:
            try:
                _import(entries[key], inspections[key], source_record(sources[key]), settings, recipe)
            except SlideError as error:
                lost.append((name, *key, error.message))
        unusable += lost
        if tried and len(lost) == len(tried):
            slides = some_of([row[2] for row in lost])
            what = f"none of the {len(tried)} files tried can be used ({slides}): {lost[0][3]}"
            problems.append(Problem(f"features.import.{name}", what, "correct the section, or make the files anew"))
    return Survey(missing, unusable, problems)
