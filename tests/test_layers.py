"""The house: who may import whom, where print and the environment may be used, what --help loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "downscale"
FILES = sorted(PACKAGE.rglob("*.py"))

_STAGES = {"errors", "variables", "coordinates", "config", "hpc", "cf", "grid", "pairs", "profiles", "training", "apply", "evaluate"}
MAY_IMPORT = {
    "errors": set(),
    "variables": {"errors"},
    "coordinates": set(),
    "config": {"errors", "variables"},
    "hpc": {"config", "errors"},
    "cf": {"errors", "variables", "coordinates", "config", "hpc"},
    "virtual": {"errors", "variables", "coordinates", "config", "hpc", "cf"},
    "grid": {"errors", "variables", "coordinates", "config", "cf.names", "cf.units", "cf.calendar"},
    "pairs": {"errors", "variables", "coordinates", "config", "hpc", "cf", "grid"},
    "profiles": {"errors", "variables", "coordinates", "config", "hpc", "cf", "grid"},
    "models": {"errors"},
    "training": {"errors", "variables", "coordinates", "config", "hpc", "cf", "grid", "pairs", "models"},
    "apply": {"errors", "variables", "coordinates", "config", "hpc", "cf", "grid", "pairs", "profiles", "models", "training"},
    "evaluate": {"errors", "variables", "coordinates", "config", "hpc", "cf", "grid", "pairs"},
    "report": {"errors", "variables", "config", "evaluate.scorecard"},
    "mlbench": {*_STAGES, "virtual"},
    "cli": {*_STAGES, "virtual", "models", "report", "mlbench"},
    "__main__": {"cli"},
}
MUST_NOT = {
    "errors": {"xarray", "torch"},
    "variables": {"xarray", "torch"},
    "coordinates": {"torch"},
    "config": {"xarray", "torch"},
    "hpc": {"xarray", "torch", "scipy", "netCDF4"},
    "cf": {"torch", "typer", "matplotlib"},
    "virtual": {"torch"},
    "grid": {"torch"},
    "pairs": {"torch", "matplotlib"},
    "profiles": {"torch", "typer", "matplotlib"},
    "models": {"xarray"},
    "training": {"typer", "matplotlib"},
    "apply": set(),
    "evaluate": {"torch", "matplotlib"},
    "report": {"torch"},
    "mlbench": {"torch", "typer", "matplotlib"},
    "cli": set(),
    "__main__": set(),
}
XARRAY_MEETS_TORCH = {"training/samples.py", "training/run.py"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            if node.module == "downscale":
                names |= {f"downscale.{alias.name}" for alias in node.names}
    return names


def ours(path: Path) -> set[str]:
    known = set(MAY_IMPORT)
    return {name.removeprefix("downscale.") for name in imports(path) if name.startswith("downscale.") and name.split(".")[1] in known}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_house(path):
    here = room(path)
    if here == "__init__":
        assert not ours(path)
        return
    allowed = MAY_IMPORT[here] | {here}
    bad = {
        name
        for name in ours(path)
        if name.split(".")[0] not in allowed and not any(name == a or name.startswith(a + ".") for a in allowed if "." in a)
    }
    assert not bad, f"{here} must not import {bad}"
    third = {name.split(".")[0] for name in imports(path)} & MUST_NOT[here]
    assert not third, f"{here} must not import {third}"


def test_xarray_meets_torch_only_at_the_door():
    both = {str(p.relative_to(PACKAGE)) for p in FILES if {"xarray", "torch"} <= {n.split(".")[0] for n in imports(p)}}
    assert both <= XARRAY_MEETS_TORCH


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_print_and_environment_stay_where_they_belong(path):
    here = room(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if here != "cli":
            assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"), (
                f"print at line {node.lineno}"
            )
        if here not in ("hpc", "config", "cli"):
            assert not (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")), f"environment at line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_fit_in_a_head(path):
    assert len(path.read_text().splitlines()) <= 300


def test_nothing_is_ever_unpickled():
    for path in FILES:
        names = imports(path)
        assert not names & {"pickle", "dill", "joblib", "shelve", "cloudpickle"}, path
        assert "torch.load" not in path.read_text() or "weights_only=True" in path.read_text(), path


def test_the_cli_loads_neither_torch_nor_xarray():
    heavy = {"torch", "xarray", "numpy", "matplotlib", "pandas", "zarr", "pydantic"}
    code = f"import sys, downscale.cli.app; print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_cli_files_import_heavy_things_inside_functions_only():
    for path in FILES:
        if room(path) == "cli":
            heavy = {n.split(".")[0] for n in imports(path, top_level_only=True)} & {"torch", "xarray", "numpy", "matplotlib"}
            assert not heavy, path
