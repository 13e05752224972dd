"""Adapters of published slide encoders; their code and weights stay the authors'.

How each model is called was read from its authors' public code and, for TITAN and PRISM, from copies of the code that
lies in their gated hub repositories; a docstring says which. Accepted tiles are the authors' own first; others cover
the same field at a finer resolution, or what the patch encoder's own input covers (an eighth less).
"""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.identity import Requirement
from slidestudy.features.slide_encoders.origins import (
    HUB,
    fetch_files,
    import_package,
    load_transformers,
    load_weights,
    told,
)
from slidestudy.features.slide_encoders.torch_base import PublishedSlideEncoder, grid_cells
from slidestudy.files import read_json


class Titan(PublishedSlideEncoder):
    """TITAN (Ding et al. 2024, arXiv 2411.19666): `encode_slide_from_patch_features(features, coords, patch_size_lv0)`.

    Features (1, n, 768) and coordinates (1, n, 2) in level-0 px; the third argument is the distance between
    neighbouring tiles at level 0 (the authors' README). Coordinates are given on the exact grid.
    """

    backend, dim = "titan", 768
    requirement = Requirement("conch-v1_5", ("conchv15",), 768, ((512, 0.5), (448, 0.5)))
    repository, install = "MahmoodLab/TITAN", "pip install transformers einops einops-exts"

    def _load(self, spec: dict[str, Any]) -> tuple[torch.nn.Module, str]:
        return load_transformers(self.repository, spec, self.install)

    def _forward(self, features: torch.Tensor, coords: NDArray[np.int32], extent: float) -> torch.Tensor:
        side = round(extent)
        placed = torch.from_numpy(grid_cells(coords, extent) * side).unsqueeze(0).to(features.device)
        return self._model.encode_slide_from_patch_features(features, placed, side)


class Prism(PublishedSlideEncoder):
    """PRISM (Shaikovski et al. 2024, arXiv 2405.10254): `slide_representations(tiles)["image_embedding"]`.

    Tiles (1, n, 2560) are Virchow's class token and mean patch token; positions are not used.
    """

    backend, dim = "prism", 1280
    requirement = Requirement("virchow", (), 2560, ((224, 0.5),))
    repository, install = "paige-ai/Prism", "pip install transformers environs sacremoses"

    def _load(self, spec: dict[str, Any]) -> tuple[torch.nn.Module, str]:
        return load_transformers(self.repository, spec, self.install)

    def _forward(self, features: torch.Tensor, coords: NDArray[np.int32], extent: float) -> torch.Tensor:
        return self._model.slide_representations(features)["image_embedding"]


class Madeleine(PublishedSlideEncoder):
    """Madeleine (Jaume et al. 2024, arXiv 2408.02859): `encode_he(features, device)`.

    Built by `madeleine.models.Model.create_model` of the authors' package, of the repository's `model_config.json` and
    `model.pt`; their `create_model_from_pretrained` always downloads, needs a GPU and unpickles the file as code.
    """

    backend, dim = "madeleine", 512
    requirement = Requirement("conch", ("conchv1", "conch_ViT-B-16"), 512, ((256, 1.0), (512, 0.5), (448, 0.5)))
    repository = "MahmoodLab/madeleine"
    install = "pip install git+https://github.com/mahmoodlab/MADELEINE.git"

    def _load(self, spec: dict[str, Any]) -> tuple[torch.nn.Module, str]:
        package = import_package("madeleine.models.Model", self._where, self.install)
        names = ("model_config.json", "model.pt")
        (config, weights), source = fetch_files(self.repository, spec, names, self.install)
        with told(self._where, self.repository, self.install):
            model = package.create_model(Namespace(**read_json(config)), device="cpu", checkpoint_path=None)
            load_weights(model, weights, self._where)
        return model, source

    def _forward(self, features: torch.Tensor, coords: NDArray[np.int32], extent: float) -> torch.Tensor:
        return self._model.encode_he(features, features.device)


class GigaPath(PublishedSlideEncoder):
    """GigaPath's LongNet (Xu et al. 2024, Nature 630:181): `model(features, coords)`, class token of the last layer.

    Built by `gigapath.slide_encoder.create_model` without weights, which are then loaded here: given a path that does
    not exist, the authors' function goes on with random ones. Its attention needs flash-attn, so a GPU and fp16. The
    model cuts coordinates into cells of 256 px of a grid of 1,000 x 1,000; it is given 256 x the tile's cell, so that
    the slide's resolution at level 0 does not matter.
    """

    backend, dim = "gigapath", 768
    requirement = Requirement("gigapath", ("prov-gigapath",), 1536, ((256, 0.5), (224, 0.5)))
    repository = "prov-gigapath/prov-gigapath"
    install = "pip install fairscale flash-attn git+https://github.com/prov-gigapath/prov-gigapath.git"
    architecture, cell, cells = "gigapath_slide_enc12l768d", 256, 1000

    def _load(self, spec: dict[str, Any]) -> tuple[torch.nn.Module, str]:
        package = import_package("gigapath.slide_encoder", self._where, self.install)
        (weights,), source = fetch_files(self.repository, spec, ("slide_encoder.pth",), self.install)
        with told(self._where, self.repository, self.install):
            model = package.create_model("", self.architecture, self.requirement.dim)
            load_weights(model, weights, self._where, lambda state: state["model"])
        return model, source

    def _forward(self, features: torch.Tensor, coords: NDArray[np.int32], extent: float) -> torch.Tensor:
        placed = grid_cells(coords, extent)
        if placed.max(initial=0) >= self.cells:
            what = f"the slide is wider or higher than {self.cells} tiles, GigaPath's largest grid"
            raise StudyError(what, self._where, "leave the slide out, or this slide encoder")
        positions = torch.from_numpy(placed * self.cell).float().unsqueeze(0).to(features.device)
        return self._model(features, positions)[-1]


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Imports from a clone as if run in it; its modules, of names such as `models`, are forgotten afterwards."""
    names, before = ("models", "utils"), Path.cwd()
    kept = {n: m for n, m in sys.modules.items() if n.split(".")[0] in names}
    for name in kept:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))
        for name in [n for n in sys.modules if n.split(".")[0] in names]:
            del sys.modules[name]
        sys.modules.update(kept)


class Chief(PublishedSlideEncoder):
    """CHIEF (Wang et al. 2024, Nature 634:970): `model(features, organ)["WSI_feature"]` without the organ's text.

    Not a package: `weights` is the folder of a clone of the authors' repository with `Text_emdding.pth` (so spelt) and
    `CHIEF_pretraining.pth` in its `model_weight/`. `WSI_feature` is the attention-weighted mean of the patch features
    (768) in the authors' present code, and does not depend on the organ; older code gave 512 and is refused.
    """

    backend, dim = "chief", 768
    requirement = Requirement("ctranspath", ("chief-ctranspath",), 768, ((256, 1.0), (224, 1.0)))
    repository, install = "hms-dbmi/CHIEF", "pip install addict"

    def _load(self, spec: dict[str, Any]) -> tuple[torch.nn.Module, str]:
        folder = Path(spec["weights"])
        wanted = ("models/CHIEF.py", "model_weight/Text_emdding.pth", "model_weight/CHIEF_pretraining.pth")
        if spec["weights"] == HUB or not all((folder / name).is_file() for name in wanted):
            found = "is not on the hub" if spec["weights"] == HUB else f"is not complete in {folder}"
            remedy = (
                "git clone https://github.com/hms-dbmi/CHIEF, put the two files that its page links to into its"
                f" model_weight/ ({', '.join(Path(n).name for n in wanted[1:])}), and give the clone as `weights:`"
            )
            raise StudyError(f"CHIEF {found}", self._where, remedy)
        with _inside(folder), told(self._where, self.repository, self.install):
            package = import_package("models.CHIEF", self._where, self.install)
            model = package.CHIEF(size_arg="small", dropout=True, n_classes=2)
            load_weights(model, folder / wanted[2], self._where)
        return model, f"folder: {folder.name}"

    def _forward(self, features: torch.Tensor, coords: NDArray[np.int32], extent: float) -> torch.Tensor:
        return self._model(features.squeeze(0), torch.tensor([0], device=features.device))["WSI_feature"]


PUBLISHED: dict[str, type[PublishedSlideEncoder]] = {
    kind.backend: kind for kind in (Titan, Prism, Madeleine, GigaPath, Chief)
}
