"""Makes the reader that a study asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from slidestudy.errors import StudyError
from slidestudy.explanations.ledger import Caps, Job
from slidestudy.explanations.protocol import Reader
from slidestudy.explanations.readers.calls import Sampling
from slidestudy.explanations.readers.clip import ClipReader, ClipSettings
from slidestudy.explanations.readers.endpoint import Endpoint, EndpointSettings
from slidestudy.explanations.readers.local import LocalModel, LocalSettings
from slidestudy.explanations.readers.morphometric import MorphometryReader
from slidestudy.explanations.readers.vision_language import VlmReader, VlmSettings

__all__ = ["build_reader"]

WHERE = "explanations.reader"
Settings = dict[str, Any]
S = TypeVar("S")


def build_reader(settings: Mapping[str, Any], job: Job | None = None) -> Reader:
    """Makes the reader that a study asks for.

    Args:
        settings: `kind`, and the keys of that kind as in the configuration, paths absolute.
        job: The job that asks, for the ledger of a vision-language model; the other kinds need none.

    Raises:
        StudyError: The kind or a key is unknown, a key is missing, or what the reader refuses.
    """
    kind = settings.get("kind")
    makers: dict[Any, Callable[[Settings, Job | None], Reader]] = {
        "morphometry": _morphometry,
        "clip": _clip,
        "openai": _openai,
        "transformers": _transformers,
    }
    if kind not in makers:
        raise StudyError(f"unknown kind of reader {kind!r}", f"{WHERE}.kind", f"use one of {', '.join(makers)}")
    return makers[kind]({key: value for key, value in settings.items() if key != "kind"}, job)


def _morphometry(settings: Settings, _: Job | None) -> Reader:
    _refuse_left(settings)
    return MorphometryReader()


def _clip(settings: Settings, _: Job | None) -> Reader:
    own = _take(ClipSettings, settings, ("architecture", "weights"))
    _refuse_left(settings)
    return ClipReader(own)


def _openai(settings: Settings, job: Job | None) -> Reader:
    shown, sampling = _vlm(settings), _take(Sampling, settings)
    reached = _take(EndpointSettings, settings, ("base_url", "api_key_env"))
    (model,) = _needed(settings, "model")
    structured = settings.pop("structured", "auto")
    caps = Caps(settings.pop("max_calls", None), settings.pop("max_cost", None))
    _refuse_left(settings)
    if caps.cost is not None and not (reached.price_per_million_input or reached.price_per_million_output):
        remedy = "give price_per_million_input and price_per_million_output, or set max_calls"
        raise StudyError("the cost is capped, but no prices are given", f"{WHERE}.max_cost", remedy)
    return VlmReader(Endpoint(model, reached, sampling, structured), model, shown, _job(job), caps)


def _transformers(settings: Settings, job: Job | None) -> Reader:
    shown, sampling = _vlm(settings), _take(Sampling, settings)
    channel = LocalModel(_take(LocalSettings, settings, ("weights",)), sampling)
    _refuse_left(settings)
    return VlmReader(channel, channel.name, shown, _job(job))


def _vlm(settings: Settings) -> VlmSettings:
    """What a vision-language model is shown and asked."""
    keys = ("describe_prompt", "answer_prompt", "image_only_prompt")
    prompts = dict(zip(keys, map(Path, _needed(settings, *keys)), strict=True))
    return VlmSettings(**prompts, images=tuple(settings.pop("images", ("rgb",))))


def _job(job: Job | None) -> Job:
    if job is None:
        raise ValueError("a vision-language model keeps a ledger, and needs to know its place")
    return job


def _take(kind: type[S], settings: Settings, needed: tuple[str, ...] = ()) -> S:
    """Moves the settings of a dataclass out of all settings, into it."""
    required = dict(zip(needed, _needed(settings, *needed), strict=True))
    names = [entry.name for entry in fields(kind) if entry.name in settings]  # type: ignore[arg-type]
    return kind(**required, **{name: settings.pop(name) for name in names})


def _needed(settings: Settings, *keys: str) -> list[Any]:
    """Moves settings out that must be there."""
    # No key at all is a choice: of an endpoint that asks for none.
    missing = [key for key in keys if key not in settings or (settings[key] in (None, "") and key != "api_key_env")]
    if missing:
        raise StudyError(f"the reader lacks {', '.join(missing)}", WHERE, "this kind of reader needs all of them")
    return [settings.pop(key) for key in keys]


def _refuse_left(settings: Settings) -> None:
    if settings:
        what = f"unknown setting(s) {', '.join(sorted(settings))}"
        raise StudyError(what, WHERE, "take them out: this kind of reader does not know them")
