"""Checks of a study's encoders, and of the stages that only encoders have; each returns all problems it finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slidestudy.encoder_entries import NOT_FILES, tile_problem
from slidestudy.errors import Problem
from slidestudy.settings import Config
from slidestudy.stages import pretraining_cohorts, slide_encoders
from slidestudy.tables import did_you_mean

WITHOUT_WEIGHTS = ("stain-texture", "imported")
"""Backends that build no model."""


def encoder_problems(config: Config, source: str) -> list[Problem]:
    """Problems of patch encoders, slide encoders, comparisons and summaries within the configuration.

    Args:
        config: The configuration, complete, its input paths absolute.
        source: Its file, for the messages.
    """
    problems = []
    for name, encoder in config["encoders"].items():
        where = f"{source}, key encoders.{name}"
        problems += _entry_problems(name, encoder, config, where)
        # Tiles of imported features are checked against the files, which may come from another tool's grid.
        misfit = tile_problem(name, encoder, config["tiles"])
        if misfit is not None:
            problems.append(Problem(where, misfit.what, misfit.remedy))
        if "pretraining" in encoder:
            problems += list(_pretraining_problems(name, config, f"{where}.pretraining"))
    return problems + _reserved_problems(config, source) + list(_name_problems(config, source))


def _entry_problems(name: str, encoder: Config, config: Config, where: str) -> list[Problem]:
    """Problems of one entry by itself."""
    problems = []
    backend, weights, imported = encoder["backend"], encoder.get("weights"), name in config["features"]["import"]
    if imported:
        return []
    if backend == "imported":
        remedy = f"say in features.import.{name} where they lie, or give another backend"
        return [Problem(where, "its features are imported from nowhere", remedy)]
    if backend not in WITHOUT_WEIGHTS:
        if not encoder.get("architecture"):
            remedy = "e.g. architecture: resnet18"
            problems.append(Problem(where, f"a {backend} encoder needs an architecture", remedy))
        if weights is None:
            remedy = "give a file as `weights:`, or hub, none or study"
            problems.append(Problem(where, f"a {backend} encoder needs to say its weights", remedy))
        elif weights not in NOT_FILES and not Path(weights).exists():
            remedy = "correct the path, or weights: hub, none or study"
            problems.append(Problem(where, f"the weights file {weights} does not exist", remedy))
    if (weights == "study") != ("pretraining" in encoder):
        remedy = "give both `weights: study` and `pretraining:`, or neither"
        problems.append(Problem(where, "says only one half of being trained by this study", remedy))
    if weights == "study" and backend != "timm":
        problems.append(Problem(where, f"a {backend} encoder cannot be trained here", "use backend: timm"))
    return problems


def _pretraining_problems(name: str, config: Config, where: str) -> Iterator[Problem]:
    """Problems of how an encoder is trained: no label of a slide that is tested on may be seen."""
    options = config["encoders"][name]["pretraining"]
    roles = {cohort: entry["role"] for cohort, entry in config["cohorts"].items()}
    for cohort in options["cohorts"]:
        if cohort not in roles:
            yield Problem(f"{where}.cohorts", f"unknown cohort '{cohort}'", did_you_mean(cohort, list(roles)))
        elif roles[cohort] == "external":
            what = f"'{cohort}' is external: a model on this encoder could not be validated on it"
            yield Problem(f"{where}.cohorts", what, "give the cohort the role pretraining, or take it out")
        elif options["method"] == "fine-tune" and roles[cohort] != "pretraining":
            what = f"the labels of '{cohort}' would be seen by the encoder, and then be tested on"
            yield Problem(f"{where}.cohorts", what, "fine-tune on a cohort of role pretraining")
    if not pretraining_cohorts(config, name):
        yield Problem(where, "there is no cohort to train on", "add a cohort of role pretraining")
    if options["method"] == "fine-tune" and not options.get("target"):
        yield Problem(where, "fine-tune needs a target", "name a label column as `target:`")
    if options["start"] not in ("none", "hub") and not Path(options["start"]).is_file():
        what = f"the weights file {options['start']} does not exist"
        yield Problem(f"{where}.start", what, "correct the path, or start: none or hub")


def _reserved_problems(config: Config, source: str) -> list[Problem]:
    """Cohorts of role pretraining that train nothing."""
    used = {
        cohort
        for name, encoder in config["encoders"].items()
        if "pretraining" in encoder
        for cohort in pretraining_cohorts(config, name)
    }
    return [
        Problem(f"{source}, key cohorts.{name}", "no encoder is trained on it", "add an encoder with `weights: study`")
        for name, cohort in config["cohorts"].items()
        if cohort["role"] == "pretraining" and name not in used
    ]


def _name_problems(config: Config, source: str) -> Iterator[Problem]:
    """Encoders that stages name and that do not exist."""
    patch, every = list(config["encoders"]), list(slide_encoders(config))
    references = [("features.import", list(config["features"]["import"]), patch, "encoder")]
    references += [("summaries.encoders", config["summaries"]["encoders"], patch, "encoder")]
    for name, entry in config["slide_encoders"].items():
        references.append((f"slide_encoders.{name}.encoder", [entry["encoder"]], patch, "encoder"))
        if entry["weights"] != "hub" and not Path(entry["weights"]).exists():
            what = f"{entry['weights']} does not exist"
            yield Problem(f"{source}, key slide_encoders.{name}.weights", what, "correct the path, or weights: hub")
    for name, comparison in config["comparisons"].items():
        known = [*every, *patch]
        references.append((f"comparisons.{name}.encoders", comparison["encoders"], known, "encoder or slide encoder"))
    for key, names, known, kind in references:
        for wanted in names:
            if wanted not in known:
                yield Problem(f"{source}, key {key}", f"unknown {kind} '{wanted}'", did_you_mean(wanted, known))
