"""Each rule's conda environment holds what its script imports, in the versions of the lock file."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.workflow.small_study import REPOSITORY

SCRIPTS = REPOSITORY / "scripts"
# Import name -> conda-forge package, and package -> PyPI name where they differ.
PACKAGES = {
    "cv2": "opencv",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "torch": "pytorch",
    "dask": "dask-core",
    "matplotlib": "matplotlib-base",
    "openslide": "openslide-python",
    "umap": "umap-learn",
    "open_clip": "open-clip-torch",
    "ot": "pot",
    "pytorch_grad_cam": "grad-cam",
}
PYPI = {
    "opencv": "opencv-python-headless",
    "pytorch": "torch",
    "dask-core": "dask",
    "matplotlib-base": "matplotlib",
    "openslide": "openslide-bin",
    "huggingface_hub": "huggingface-hub",
}
RULES = re.findall(
    r'^(?:rule|checkpoint) (\w+):.*?conda:\s+"../../envs/(\w+)\.yaml".*?script:\s+"../../scripts/(\w+)\.py"',
    "\n".join(p.read_text(encoding="utf-8") for p in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))),
    re.MULTILINE | re.DOTALL,
)


def dependencies(environment: str) -> dict[str, str]:
    """Package -> version of an environment file, of conda-forge and of PyPI."""
    lines = yaml.safe_load((REPOSITORY / "envs" / f"{environment}.yaml").read_text(encoding="utf-8"))["dependencies"]
    conda = dict(line.split(" =") for line in lines if isinstance(line, str) and line != "pip")
    pip = [item.removesuffix(".*").split(" ==") for line in lines if isinstance(line, dict) for item in line["pip"]]
    return {**conda, **dict(pip)}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Absolute names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def module_file(name: str) -> Path | None:
    """The library's file of a module name."""
    base = SCRIPTS.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def third_party(script: Path) -> set[str]:
    """Packages outside the library and the standard library that a script needs, directly or through the library."""
    found, seen, waiting = set(), set(), [script]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports_of(path):
            if name.split(".")[0] == "slidestudy":
                file = module_file(name)
                waiting += [file] if file else []
            elif name.split(".")[0] not in sys.stdlib_module_names:
                found.add(name.split(".")[0])
    return found


def test_every_rule_names_an_environment_and_a_script():
    rules = "\n".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    assert len(RULES) == len(re.findall(r"^(?:rule|checkpoint) ", rules, re.MULTILINE))
    assert len(RULES) >= 14


@pytest.mark.parametrize(("rule", "environment", "script"), RULES)
def test_environment_holds_what_the_script_imports(rule, environment, script):
    held = set(dependencies(environment))
    needed = {PACKAGES.get(name, name) for name in third_party(SCRIPTS / f"{script}.py")}
    assert needed <= held, f"envs/{environment}.yaml lacks {sorted(needed - held)} for rule {rule}"


@pytest.mark.parametrize("environment", sorted({environment for _, environment, _ in RULES}))
def test_environment_versions_are_those_of_the_lock(environment):
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    for package, version in dependencies(environment).items():
        if package == "python":
            continue
        locked = re.findall(rf"^{re.escape(PYPI.get(package, package))}==([^ ;]+)", lock, re.MULTILINE)
        assert any(found.startswith(f"{version}.") for found in locked), f"{package} {version}, locked {locked}"


def test_inspection_and_masks_start_without_torch():
    for script in ("inspect_slide", "segment_tissue", "sample_patches", "score_explanations"):
        assert not {"torch", "timm"} & third_party(SCRIPTS / f"{script}.py"), script
