"""Records of what apply has done, and how its files are laid out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downscale.apply.marks import BYTES, CLIMATE, FILES
from downscale.hpc.paths import require_inside
from downscale.profiles.output import Profile


@dataclass(frozen=True)
class Layout:
    """How predictions are laid out on disk.

    Attributes:
        profile: of the files.
        years_per_file: years that go to one file; None for all.
        compression: deflate level.
        significant_bits: bits of the mantissa that are kept; None for all.
    """

    profile: Profile = "cf"
    years_per_file: int | None = None
    compression: int = 1
    significant_bits: int | None = None

    def facts(self) -> dict[str, Any]:
        """What decides which files there are and what they hold, where it is not the default."""
        plain = Layout()
        names = ("profile", "years_per_file", "significant_bits")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a record whole or not at all, whoever else writes the same; what killed processes left of it goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    temporary.write_text(json.dumps(facts, indent=2, default=str) + "\n")
    try:
        temporary.replace(path)
    except FileNotFoundError:
        if not path.exists():
            raise
    for left in path.parent.glob(f"{path.name}.*.partial"):
        left.unlink(missing_ok=True)


def paths_of(record: Mapping[str, Any], folder: Path) -> set[str]:
    """Files of a record, relative to its folder; those of older records are named after their variables.

    Raises:
        InputDataError: a path leads out of the folder.
    """
    found = [record[key] for key in FILES if isinstance(record.get(key), dict)]
    if not found:
        return {f"{name}.nc" for name in record.get("variables", ())}
    paths = {str(path) for files in found for paths in files.values() for path in paths} | set(map(str, record.get(CLIMATE, ())))
    require_inside([part for path in paths for part in path.split("/")], folder)
    return paths


def all_there(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the files of a record stand in its folder, each with the bytes that it had (older records do not say how many)."""
    sizes = record.get(BYTES)
    known = sizes if isinstance(sizes, dict) else {}
    return all((folder / path).exists() and known.get(path) in (None, bytes_of(folder / path)) for path in paths_of(record, folder))


def bytes_of(path: Path) -> int:
    """Size of a file, or of all files of a store."""
    parts = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return sum(one.stat().st_size for one in parts)


def remove(path: Path) -> None:
    """Remove a file or a store, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
