"""Multiple-instance models by name: packed bags in, slides' outputs and every tile's score and attention out."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from slidestudy.errors import StudyError
from slidestudy.models.aggregators.abmil import Abmil, GatedAbmil
from slidestudy.models.aggregators.base import MilModel, Shape, Standardiser
from slidestudy.models.aggregators.clam import ClamMb, ClamSb
from slidestudy.models.aggregators.coattention import Mcat
from slidestudy.models.aggregators.dsmil import DsMil
from slidestudy.models.aggregators.dtfd import DtfdMil
from slidestudy.models.aggregators.ectil import Ectil
from slidestudy.models.aggregators.fusion import ConcatAbmil
from slidestudy.models.aggregators.pooling import LinearProbe, MaxPool, MeanPool
from slidestudy.models.aggregators.transformer import TransformerMil
from slidestudy.models.aggregators.transmil import TransMil
from slidestudy.models.aggregators.transport import Motcat
from slidestudy.models.packing import MilOutput

__all__ = [
    "AGGREGATORS",
    "FIXED",
    "MilModel",
    "MilOutput",
    "Standardiser",
    "aggregator_options",
    "build_model",
    "study_arguments",
]

AGGREGATORS: dict[str, type[MilModel]] = {
    "linear": LinearProbe,
    "mean": MeanPool,
    "max": MaxPool,
    "ectil": Ectil,
    "gated-abmil": GatedAbmil,
    "abmil": Abmil,
    "clam-sb": ClamSb,
    "clam-mb": ClamMb,
    "dsmil": DsMil,
    "dtfd-mil": DtfdMil,
    "transmil": TransMil,
    "transformer": TransformerMil,
    "concat-abmil": ConcatAbmil,
    "mcat": Mcat,
    "motcat": Motcat,
}
FIXED = tuple(field.name for field in fields(Shape))
"""What the data and the task decide of every model, not the user."""


def _class_of(aggregator: str) -> type[MilModel]:
    if aggregator not in AGGREGATORS:
        raise StudyError(f"unknown aggregator '{aggregator}'", "model", f"known are: {', '.join(AGGREGATORS)}")
    return AGGREGATORS[aggregator]


def aggregator_options(aggregator: str) -> dict[str, Any]:
    """The options of an aggregator and their defaults, without FIXED and what else the study sets.

    Raises:
        StudyError: The aggregator is unknown.
    """
    parameters = inspect.signature(_class_of(aggregator)).parameters
    taken = ("shape", *study_arguments(aggregator))
    return {name: parameter.default for name, parameter in parameters.items() if name not in taken}


def study_arguments(aggregator: str) -> tuple[str, ...]:
    """Arguments of an aggregator that the study sets beside FIXED: `groups` of those that attend by group."""
    return _class_of(aggregator).set_by_study


def build_model(architecture: dict[str, Any]) -> MilModel:
    """Makes a model from what `model.json` says of its architecture.

    Args:
        architecture: `aggregator dim`, `n_outputs` (1), `n_covariates` (0), `n_modality` (0), `clip`, the aggregator's
            options and its `study_arguments`.

    Raises:
        StudyError: The aggregator is unknown, or an option is unknown to it or of no use.
    """
    arguments = dict(architecture)
    name = arguments.pop("aggregator")
    known = (*FIXED, *study_arguments(name), *aggregator_options(name))
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise StudyError(f"{name} has no option {', '.join(unknown)}", "model", f"known are: {', '.join(known)}")
    try:
        shape = Shape(**{key: arguments.pop(key) for key in FIXED if key in arguments})
        return _class_of(name)(shape, **arguments)
    except (AssertionError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise StudyError(f"{name} cannot be made of {arguments}: {error}", "model", "mend the options") from error
