"""Paths to portraits: what is it, and how is it shown."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from downscale.cli import portraits
from downscale.cli.portraits import Portrait
from downscale.cli.tables import print_columns, print_facts, print_list, printable
from downscale.errors import InputDataError

_NOTES = 12
_FOLDERS: tuple[tuple[str, Callable[[Path], Portrait]], ...] = (
    ("model.json", portraits.run),
    ("state/recipe.json", portraits.run),
    ("prediction.json", portraits.prediction),
    ("scores.csv", portraits.scores),
    ("truth.json", portraits.sample_data),
    ("pairs.zarr", portraits.workspace),
    ("runs", portraits.workspace),
)
_OWN_FILES = ("model.json", "model.safetensors", "normaliser.json", "grids.nc", "metrics.csv", "environment.json", "DONE",
              "prediction.json", "scores.csv", "scores.nc", "truth.json")  # fmt: skip


def show_paths(paths: Sequence[str], *, json_output: bool, verbose: bool) -> None:
    """Print the portrait of each path; several netCDF files are one catalogue.

    Raises:
        InputDataError: a path that does not exist, or something that downscale does not know.
    """
    found = _portraits(paths)
    if json_output:
        typer.echo(json.dumps(found if len(found) > 1 else found[0], default=str))
        return
    for number, portrait in enumerate(found):
        if number:
            typer.echo("")
        _show(portrait, verbose=verbose)


def _portraits(paths: Sequence[str]) -> list[Portrait]:
    existing = [one for path in paths for one in _expanded(path)]
    special = [(path, _special(path)) for path in existing]
    found = [portrait for _, portrait in special if portrait is not None]
    netcdf = [path for path, portrait in special if portrait is None]
    return found + ([_netcdf(netcdf)] if netcdf else [])


def _expanded(pattern: str) -> list[Path]:
    if Path(pattern).exists() or Path(pattern).is_symlink():
        return [Path(pattern)]
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - absolute patterns
    if not matches:
        problem = "no file matches" if glob.has_magic(pattern) else "there is no such file or folder"
        raise InputDataError(problem, where=pattern, hint="give a file, a folder or a glob")
    return matches


def _special(path: Path) -> Portrait | None:
    """The portrait of one of our artefacts or of a config; None for netCDF files and folders of them."""
    if path.is_dir():
        return _folder(path)
    if path.suffix in (".yaml", ".yml"):
        return _shown(portraits.config, path)
    if path.name in _OWN_FILES:
        known = next((show for mark, show in _FOLDERS if (path.parent / mark).exists()), None)
        if known is not None:
            return _shown(known, path.parent)
    if path.suffix in (".nc", ".nc4", ".cdf") or not path.is_file():
        return None  # what is wrong with it, the catalogue says better
    from downscale.cf.portrait import is_netcdf

    if not is_netcdf(path):
        raise _unknown(path)
    return None


def _folder(path: Path) -> Portrait | None:
    if (path / "zarr.json").is_file():
        attributes = _shown(lambda folder: dict(portraits.read_json(folder / "zarr.json")).get("attributes", {}), path)
        if "groups" not in attributes or "recipe" not in attributes:
            raise InputDataError("a Zarr that downscale did not write", where=str(path), hint="inspect knows pair stores and netCDF files")
        return _shown(portraits.store, path)
    for mark, show in _FOLDERS:
        if (path / mark).exists():
            return _shown(show, path)
    if next(path.rglob("*.nc"), None) is None:
        raise _unknown(path)
    return None


def _shown(show: Callable[[Path], Portrait], path: Path) -> Portrait:
    """A portrait; InputDataError where the files of an artefact do not hold what they should."""
    try:
        return show(path)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise InputDataError(
            f"not as downscale writes it: {type(error).__name__}: {' '.join(str(error).split())[:120]}",
            where=str(path),
            hint="copy the folder again, or run the stage again",
        ) from error


def _unknown(path: Path) -> InputDataError:
    return InputDataError(
        "nothing that downscale knows",
        where=str(path),
        hint="inspect knows netCDF files and folders of them, configs, workspaces, pair stores, runs, predictions, scores and sample data",
    )


def _netcdf(paths: Sequence[Path]) -> Portrait:
    from downscale.cf.catalogue import scan
    from downscale.cf.portrait import file_facts, run_facts

    headers = scan([str(path) for path in paths])
    if len(headers) == 1:
        facts = file_facts(headers[0])
        beside = headers[0].path.parent / "prediction.json"
        made: dict[str, Any] = {"prediction": portraits.prediction(beside.parent)["facts"]} if beside.is_file() else {}
        return {"kind": "netCDF file", "path": headers[0].path, **facts, **made}
    runs = run_facts(headers)
    facts = {"files": str(len(headers)), "size": f"{sum(header.size for header in headers) / 1e6:,.1f} MB"}
    return {"kind": "catalogue", "path": ", ".join(map(str, paths[:3])) + (" ..." if len(paths) > 3 else ""), "facts": facts, "runs": runs}


def _show(portrait: Portrait, *, verbose: bool) -> None:
    rest = dict(portrait)
    notes = rest.pop("notes", [])
    typer.secho(printable(f"{rest.pop('kind')}: {rest.pop('path')}"), bold=True)
    print_facts("", _rows(rest.pop("facts", {})))
    for run in rest.pop("runs", []):
        print_facts(run["name"], _rows(run.get("run", {})), level=1)
        _table("", run.get("variables", []), level=1)
        print_list("dates", _some(run.get("dates", []), verbose), level=2)
        print_list("notes", _some(run.get("notes", []), verbose), level=2)
        print_list(f"{run['name']} ({len(run.get('files', []))} files)", _some(run.get("files", []), verbose), level=1)
    for title, value in rest.items():
        if isinstance(value, dict):
            print_facts(title, _rows(value), level=1)
        else:
            _table(title, value, level=1)
    print_list("notes", _some(notes, verbose), level=1)


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in facts.items() if value not in ("", None)]


def _table(title: str, rows: Sequence[dict[str, str]], *, level: int) -> None:
    if not rows:
        return
    if title:
        typer.echo(f"{'  ' * level}{title}")
    print_columns(list(rows[0]), [list(row.values()) for row in rows], level=level + 1)


def _some(lines: Sequence[str], verbose: bool) -> list[str]:
    """The first lines; all with -v."""
    return list(lines) if verbose or len(lines) <= _NOTES else [*lines[:_NOTES], f"... {len(lines) - _NOTES} more (with -v)"]
