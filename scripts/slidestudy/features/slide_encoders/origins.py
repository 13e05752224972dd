"""Where published slide encoders come from: their packages, hub repositories and files, with messages that help."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from slidestudy.errors import StudyError
from slidestudy.features.state_dicts import first_line

HUB = "hub"


def import_package(module: str, where: str, install: str) -> ModuleType:
    """Imports a module of a package that is not among slidestudy's own dependencies.

    Args:
        module: Its dotted name.
        where: The slide encoder, for the message.
        install: The command that installs the package.

    Raises:
        StudyError: It, or something that it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"the package {module.split('.')[0]} cannot be imported ({first_line(error)})"
        raise StudyError(what, where, f"install it in the environment of the rule encode_slides: {install}") from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def told(where: str, repository: str, install: str) -> Iterator[None]:
    """Turns what goes wrong while a published model is loaded into a message; the traceback goes to the log.

    Args:
        where: The slide encoder.
        repository: Its hub repository.
        install: The command that installs what its code imports.

    Raises:
        StudyError: In place of any other error.
    """
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        from huggingface_hub.errors import GatedRepoError

        traceback.print_exc()
        if any(isinstance(cause, GatedRepoError) for cause in _causes(error)):
            what = f"the weights are gated: {repository} wants its terms accepted"
            page = f"https://huggingface.co/{repository}"
            remedy = f"accept the terms at {page} and set HF_TOKEN to your access token, or give a folder as `weights:`"
        elif any(isinstance(cause, ImportError) for cause in _causes(error)):
            what = f"its code needs a package that is missing ({first_line(error)})"
            remedy = f"install it in the environment of the rule encode_slides: {install}"
        else:
            what = f"cannot be loaded ({first_line(error)})"
            remedy = (
                f"without internet, download {repository} elsewhere and give the folder as `weights:`; if its code does"
                " not run here, install the versions that its page names"
            )
        raise StudyError(what, where, remedy) from None


def load_transformers(repository: str, spec: dict[str, Any], install: str) -> tuple[torch.nn.Module, str]:
    """Builds a model by the code that lies beside its weights, from the hub or from a folder.

    Args:
        repository: The hub repository.
        spec: The entry: `weights` (`hub` or a folder), `revision`.
        install: The command that installs what its code imports.

    Returns:
        The model, and where it comes from, with the commit.
    """
    where, weights = f"slide encoder {spec['name']}", spec["weights"]
    transformers = import_package("transformers", where, "pip install transformers")
    with told(where, repository, install):
        if weights == HUB:
            model = transformers.AutoModel.from_pretrained(
                repository, revision=spec.get("revision"), trust_remote_code=True
            )
            commit = getattr(model.config, "_commit_hash", None) or spec.get("revision") or "unknown commit"
            return model, f"hub: {repository}@{commit}"
        if not Path(weights).is_dir():
            raise StudyError(f"the folder {weights} does not exist", where, f"put a copy of {repository} there")
        return transformers.AutoModel.from_pretrained(weights, trust_remote_code=True), f"folder: {Path(weights).name}"


def fetch_files(repository: str, spec: dict[str, Any], names: tuple[str, ...], install: str) -> tuple[list[Path], str]:
    """Finds files of a model: on the hub, in a folder, or the one file that the entry names.

    Returns:
        Their paths in the order of the names, and where they come from, with the commit.

    Raises:
        StudyError: A file is missing, or the hub does not give it.
    """
    where, weights = f"slide encoder {spec['name']}", spec["weights"]
    if weights == HUB:
        import huggingface_hub

        with told(where, repository, install):
            folder = Path(
                huggingface_hub.snapshot_download(repository, revision=spec.get("revision"), allow_patterns=list(names))
            )
        # The hub's cache names the folder of a snapshot after its commit.
        source = f"hub: {repository}@{folder.name}"
    elif len(names) == 1 and Path(weights).is_file():
        return [Path(weights)], f"file: {Path(weights).name}"
    else:
        folder, source = Path(weights), f"folder: {Path(weights).name}"
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        what = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in {folder}"
        raise StudyError(what, where, f"put the files of {repository} there, or set `weights: hub`")
    return [folder / name for name in names], source


def load_weights(
    model: torch.nn.Module, path: Path, where: str, choose: Callable[[Any], Any] = lambda state: state
) -> None:
    """Loads a PyTorch file, never unpickled as code, into a model; every weight of the model must be in it.

    Weights that the model has not got are named in the log: authors' files hold parts that only training needs.

    Args:
        model: The model.
        path: The file.
        where: The slide encoder, for the message.
        choose: Picks the state dict out of what the file holds.

    Raises:
        StudyError: It cannot be read, or does not fit.
    """
    try:
        state = choose(torch.load(path, map_location="cpu", weights_only=True))
        state = {key.removeprefix("module."): value for key, value in state.items()}
    except Exception as error:
        what = f"{path} cannot be read ({first_line(error)})"
        raise StudyError(what, where, "download it again") from None
    own = model.state_dict()
    wrong = [k for k in sorted(own) if k not in state or state[k].shape != own[k].shape]
    if wrong:
        listed = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise StudyError(f"{path} does not hold, or in another shape: {listed}", where, "download the file anew")
    left = sorted(state.keys() - own.keys())
    if left:
        print(f"{path}: not used by the model: {', '.join(left)}")
    model.load_state_dict({key: state[key] for key in own})
