"""Adapters of published slide encoders, over stand-ins with the calls of the real ones (see slide_encoder_doubles)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.slide_encoder_doubles import (
    GIGAPATH,
    MADELEINE,
    patch_store,
    write_chief,
    write_hub_folder,
    write_package,
)

from slidestudy.errors import StudyError
from slidestudy.features.slide_encoders.building import build_slide_encoder
from slidestudy.features.slide_encoders.identity import SlideEncoder
from slidestudy.features.slide_encoders.published import PUBLISHED
from slidestudy.features.slide_encoders.torch_base import grid_cells
from slidestudy.features.store import FeatureStore

PATCHES: dict[str, tuple[str, int, int, float]] = {
    "titan": ("conch-v1_5", 768, 512, 0.5),
    "prism": ("virchow", 2560, 224, 0.5),
    "madeleine": ("conch", 512, 256, 1.0),
    "gigapath": ("gigapath", 1536, 256, 0.5),
    "chief": ("ctranspath", 768, 256, 1.0),
}
BACKENDS = pytest.mark.parametrize("backend", list(PATCHES))


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, code of hub folders in a folder of its own, and no trace of the stand-ins' modules."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hub-code"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [n for n in sys.modules if n.split(".")[0] in ("gigapath", "madeleine")]:
        monkeypatch.delitem(sys.modules, name)


def spec_of(backend: str, weights: Path | str, **changed: Any) -> dict[str, Any]:
    encoder = PATCHES[backend][0]
    entry = {"name": f"my-{backend}", "backend": backend, "encoder": encoder, "weights": str(weights)}
    return {**entry, "precision": "fp32", **changed}


def write_weights(backend: str, folder: Path) -> Path:
    """The stand-in's code and weights; every weight is 2."""
    site = folder / "site"
    sys.path.insert(0, str(site))
    if backend in ("titan", "prism"):
        kind, width = {"titan": ("TitanDouble", 768), "prism": ("PrismDouble", 1280)}[backend]
        return write_hub_folder(folder / backend, kind, width)
    if backend == "chief":
        return write_chief(folder / "CHIEF")
    weights = folder / backend
    weights.mkdir()
    if backend == "madeleine":
        write_package(site, "madeleine.models.Model", MADELEINE)
        (weights / "model_config.json").write_text('{"wsi_encoder_hidden_dim": 512}')
        torch.save({"module.scale": torch.full((512,), 2.0)}, weights / "model.pt")
    else:
        write_package(site, "gigapath.slide_encoder", GIGAPATH)
        state = {"scale": torch.full((768,), 2.0), "decoder": torch.ones(3)}
        torch.save({"model": state}, weights / "slide_encoder.pth")
    return weights


def made(backend: str, folder: Path, store: FeatureStore | None = None) -> tuple[SlideEncoder, FeatureStore]:
    store = store or patch_store(*PATCHES[backend])
    return build_slide_encoder(spec_of(backend, write_weights(backend, folder)), store.attributes), store


def refusal(backend: str, weights: Path | str, store: FeatureStore | None = None, **changed: Any) -> str:
    store = store or patch_store(*PATCHES[backend])
    with pytest.raises(StudyError) as caught:
        build_slide_encoder(spec_of(backend, weights, **changed), store.attributes)
    return str(caught.value)


# What is encoded


@pytest.mark.parametrize(
    ("backend", "dim", "told"), [("titan", 768, 3), ("prism", 1280, 0), ("madeleine", 512, 0), ("gigapath", 768, 2),
                                 ("chief", 768, 0)]
)  # fmt: skip
def test_a_slide_becomes_the_vector_that_the_loaded_model_gives(backend, dim, told, tmp_path):
    encoder, store = made(backend, tmp_path)
    vector = encoder.encode(store)
    assert (vector.shape, vector.dtype, encoder.identity.dim) == ((dim,), np.float32, dim)
    expected = 2 * store.features.astype(np.float32).mean(0)[: dim - told]
    np.testing.assert_allclose(vector[: dim - told], expected, atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(store), vector)


@BACKENDS
def test_the_identity_says_where_the_weights_are_from_and_which_they_are(backend, tmp_path):
    encoder, _ = made(backend, tmp_path)
    identity = encoder.identity
    assert (identity.name, identity.backend, identity.encoder) == (f"my-{backend}", backend, PATCHES[backend][0])
    assert identity.weights == f"folder: {'CHIEF' if backend == 'chief' else backend}"
    assert len(identity.weights_digest) == 16
    assert identity.precision == "fp32"


def test_other_weights_have_another_digest(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, store = made("gigapath", tmp_path / "a")
    weights = write_weights("gigapath", tmp_path / "b") / "slide_encoder.pth"
    torch.save({"model": {"scale": torch.full((768,), 3.0)}}, weights)
    other = build_slide_encoder(spec_of("gigapath", weights), store.attributes)
    assert other.identity.weights == "file: slide_encoder.pth"
    assert other.identity.weights_digest != first.identity.weights_digest


# Coordinates


def test_titan_gets_the_exact_grid_and_the_distance_of_tiles_at_level_0(tmp_path):
    encoder, store = made("titan", tmp_path, patch_store(*PATCHES["titan"], extent=1013.4))
    # The last tile of 4 x 3 is in column 3, row 2; at level 0 it lies at 3040.2, rounded to 3040.
    assert tuple(store.coords[-1]) == (3040, 2027)
    np.testing.assert_array_equal(encoder.encode(store)[-3:], [3 * 1013, 2 * 1013, 1013])


@pytest.mark.parametrize("extent", [256.0, 512.0, 506.7, 493.2])
def test_gigapath_gets_the_tiles_cell_whatever_the_resolution_at_level_0(extent, tmp_path):
    encoder, store = made("gigapath", tmp_path, patch_store(*PATCHES["gigapath"], extent=extent))
    np.testing.assert_array_equal(encoder.encode(store)[-2:], [3, 2])


def test_a_slide_wider_than_gigapaths_grid_is_refused(tmp_path):
    encoder, _ = made("gigapath", tmp_path)
    wide = patch_store(*PATCHES["gigapath"], origin=512 * 998)
    with pytest.raises(StudyError, match="wider or higher than 1000 tiles"):
        encoder.encode(wide)


@settings(max_examples=200, deadline=None)
@given(st.floats(20, 2000), st.integers(0, 300), st.integers(1, 60))
def test_cells_are_counted_from_the_slides_corner_however_the_tiles_are_rounded(extent, first, count):
    columns = np.arange(first, first + count)
    coords = np.stack([np.rint(columns * extent), np.zeros(count)], 1).astype(np.int32)
    np.testing.assert_array_equal(grid_cells(coords, extent)[:, 0], columns)


# Other patch features


@BACKENDS
def test_the_documentation_says_what_each_needs(backend, repository):
    needed, kind = PUBLISHED[backend].requirement, PUBLISHED[backend]
    tiles = ", ".join(f"{size} at {mpp:g}" for size, mpp in needed.tiles)
    row = f"| `{backend}` | {needed.encoder} | {kind.dim} | {tiles} |"
    assert row in (repository / "docs" / "comparison.md").read_text(encoding="utf-8")


@BACKENDS
def test_another_patch_encoder_is_refused_before_anything_is_loaded(backend):
    wrong = patch_store("resnet50", PATCHES[backend][1], *PATCHES[backend][2:], architecture="resnet50")
    text = refusal(backend, "/nowhere", wrong)
    assert f"{backend} reads the features of {PATCHES[backend][0]}, not of resnet50" in text
    assert f"set `slide_encoders.my-{backend}.encoder: {PATCHES[backend][0]}`" in text


@BACKENDS
def test_other_tiles_are_refused_with_those_that_fit(backend):
    name, dim, size, mpp = PATCHES[backend]
    text = refusal(backend, "/nowhere", patch_store(name, dim, size, mpp * 2))
    assert f"needs tiles of {size} px at {mpp:g} um/px" in text
    assert f"not of {size} px at {2 * mpp:g} um/px" in text


@BACKENDS
def test_a_store_of_other_features_is_refused_by_a_loaded_encoder_too(backend, tmp_path):
    encoder, _ = made(backend, tmp_path)
    name, dim, *tiles = PATCHES[backend]
    with pytest.raises(StudyError, match=f"reads the features of {name}"):
        encoder.encode(patch_store("other", dim, *tiles))
    with pytest.raises(StudyError, match=f"reads vectors of length {dim}, not {dim // 2}"):
        encoder.encode(patch_store(name, dim // 2, *tiles))


@pytest.mark.parametrize(
    ("backend", "name", "architecture", "accepted"),
    [
        ("prism", "mine", "hf-hub:paige-ai/Virchow", True),
        ("prism", "mine", "hf-hub:paige-ai/Virchow2", False),
        ("prism", "virchow2", "x", False),
        ("titan", "conch_v15", "x", True),
        ("titan", "mine", "hf-hub:MahmoodLab/conchv1_5@abc", True),
        ("titan", "conch", "x", False),
        ("madeleine", "mine", "MahmoodLab/CONCH", True),
        ("madeleine", "conch-v1_5", "x", False),
        ("gigapath", "mine", "hf-hub:prov-gigapath/prov-gigapath", True),
    ],
)
def test_a_patch_encoder_is_known_by_its_name_or_its_architecture(backend, name, architecture, accepted):
    store = patch_store(name, *PATCHES[backend][1:], architecture=architecture)
    assert ("reads the features of" in refusal(backend, "/nowhere", store)) is not accepted


# Missing packages and weights


@pytest.mark.parametrize(
    ("backend", "package", "install"),
    [
        ("madeleine", "madeleine", "pip install git+https://github.com/mahmoodlab/MADELEINE.git"),
        ("gigapath", "gigapath", "git+https://github.com/prov-gigapath/prov-gigapath.git"),
    ],
)
def test_a_package_that_is_not_installed_is_told_with_the_command(backend, package, install, tmp_path):
    text = refusal(backend, tmp_path)
    assert f"the package {package} cannot be imported (No module named '{package}')" in text
    assert install in text


def test_a_package_that_a_models_own_code_needs_is_told_with_the_command(tmp_path):
    folder = write_weights("prism", tmp_path)
    code = (folder / "modeling_double.py").read_text()
    (folder / "modeling_double.py").write_text(f"import surely_not_installed\n{code}")
    text = refusal("prism", folder)
    assert "its code needs a package that is missing" in text
    assert "surely_not_installed" in text
    assert "pip install transformers environs sacremoses" in text


def test_chief_is_no_package_and_says_where_its_parts_are_from(tmp_path):
    assert "CHIEF is not on the hub" in refusal("chief", "hub")
    clone = write_chief(tmp_path / "CHIEF")
    (clone / "model_weight" / "Text_emdding.pth").unlink()
    text = refusal("chief", clone)
    assert f"is not complete in {clone}" in text
    assert "git clone https://github.com/hms-dbmi/CHIEF" in text


def test_chief_leaves_no_module_no_folder_and_no_path_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = type(sys)("utils")
    monkeypatch.setitem(sys.modules, "utils", kept)
    paths = list(sys.path)
    build_slide_encoder(spec_of("chief", write_chief(tmp_path / "CHIEF")), patch_store(*PATCHES["chief"]).attributes)
    assert (Path.cwd(), sys.modules["utils"], sys.path) == (tmp_path, kept, paths)
    assert not any(name.split(".")[0] == "models" for name in sys.modules)


def test_chiefs_older_code_of_other_length_is_refused(tmp_path):
    clone = write_chief(tmp_path / "CHIEF")
    code = (clone / "models" / "CHIEF.py").read_text()
    (clone / "models" / "CHIEF.py").write_text(
        code.replace('"WSI_feature": pooled,', '"WSI_feature": pooled[:, :512],')
    )
    store = patch_store(*PATCHES["chief"])
    encoder = build_slide_encoder(spec_of("chief", clone), store.attributes)
    with pytest.raises(StudyError, match=r"of shape \(512,\), not \(768,\)"):
        encoder.encode(store)


def test_a_folder_that_does_not_exist_is_told(tmp_path):
    assert "the folder /nowhere does not exist" in refusal("titan", "/nowhere")
    (tmp_path / "empty").mkdir()
    write_weights("gigapath", tmp_path)
    assert "slide_encoder.pth is not in" in refusal("gigapath", tmp_path / "empty")


def test_weights_that_lack_a_part_of_the_model_are_refused_and_spare_parts_named(tmp_path, capsys):
    weights = write_weights("gigapath", tmp_path)
    build_slide_encoder(spec_of("gigapath", weights), patch_store(*PATCHES["gigapath"]).attributes)
    assert "not used by the model: decoder" in capsys.readouterr().out
    torch.save({"model": {"decoder": torch.ones(3)}}, weights / "slide_encoder.pth")
    assert "does not hold, or in another shape: scale" in refusal("gigapath", weights)


def test_a_damaged_file_is_told(tmp_path):
    weights = write_weights("madeleine", tmp_path)
    (weights / "model.pt").write_bytes(b"no weights")
    assert "model.pt cannot be read" in refusal("madeleine", weights)


@pytest.mark.parametrize(
    ("backend", "page"), [("titan", "MahmoodLab/TITAN"), ("gigapath", "prov-gigapath/prov-gigapath")]
)
def test_gated_weights_are_told_with_their_page_and_the_variable(backend, page, tmp_path, monkeypatch):
    write_weights(backend, tmp_path)
    # Made without the response that its constructor wants.
    gated = GatedRepoError.__new__(GatedRepoError)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("cannot load") from gated

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    text = refusal(backend, "hub")
    assert f"https://huggingface.co/{page}" in text
    assert "HF_TOKEN" in text


def test_the_revision_is_asked_for_and_the_commit_recorded(tmp_path, monkeypatch):
    folder = write_weights("gigapath", tmp_path)
    asked = {}

    def download(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        return str(folder.rename(tmp_path / "0a1b2c"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    store = patch_store(*PATCHES["gigapath"])
    encoder = build_slide_encoder(spec_of("gigapath", "hub", revision="v1"), store.attributes)
    assert encoder.identity.weights == "hub: prov-gigapath/prov-gigapath@0a1b2c"
    assert (asked["revision"], asked["allow_patterns"]) == ("v1", ["slide_encoder.pth"])


# While encoding


def test_what_a_models_own_code_complains_of_is_told_with_the_slide(tmp_path, monkeypatch, capsys):
    encoder, store = made("prism", tmp_path)
    monkeypatch.setattr(encoder, "_forward", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(StudyError, match="own code failed on slide s1"):
        encoder.encode(store)
    assert "Traceback" in capsys.readouterr().err


def test_too_little_memory_is_told_with_the_number_of_tiles(tmp_path, monkeypatch):
    encoder, store = made("prism", tmp_path)

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(encoder, "_forward", fail)
    with pytest.raises(StudyError, match="does not suffice for slide s1 of 12 tiles"):
        encoder.encode(store)


def test_a_vector_that_is_not_finite_is_refused(tmp_path, monkeypatch):
    encoder, store = made("prism", tmp_path)
    monkeypatch.setattr(encoder, "_forward", lambda *_: torch.full((1, 1280), torch.nan))
    with pytest.raises(StudyError, match="the vector of slide s1 is not finite"):
        encoder.encode(store)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_half_precision_without_a_gpu_is_refused(tmp_path):
    assert "precision fp16 needs a GPU" in refusal("titan", tmp_path, precision="fp16")
