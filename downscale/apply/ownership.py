"""Whose files lie where a prediction is to go."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import netCDF4

_OURS = "downscale_model_id"
_PATTERNS = ("*.nc", "*.zarr", "spread/*.nc", "series/*.nc", "CORDEX-*/**/*.nc")
"""Where the layouts put fields."""


def foreign_files(folder: Path, model_id: str, known: Collection[str]) -> list[str]:
    """Files of fields in a folder that this emulator has not written, relative to it.

    Args:
        folder: of a prediction without a record, e.g. because a process was killed before it wrote one.
        model_id: of the emulator, which its files state.
        known: files that some record lists.
    """
    found = (path for pattern in _PATTERNS for path in sorted(folder.glob(pattern)))
    names = ((path, path.relative_to(folder).as_posix()) for path in found)
    return [name for path, name in names if name not in known and model_id not in _stated(path)]


def _stated(path: Path) -> Iterator[str]:
    """The model id that a file or store states; nothing where it cannot be read."""
    try:
        if path.is_dir():
            yield str(json.loads((path / ".zattrs").read_text()).get(_OURS))
        else:
            with netCDF4.Dataset(path) as file:
                yield str(getattr(file, _OURS, None))
    except (OSError, ValueError, RuntimeError):
        return
