"""Folders of the user that belong to no experiment, and what makes files last."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Where headers of input files are kept: $DOWNSCALE_CACHE, else $XDG_CACHE_HOME/downscale, else ~/.cache/downscale.

    Returns:
        The folder, made when it is not there; None when $DOWNSCALE_CACHE is ``off``, when there is no home, or when nothing can be
        written there. Everything works without it.
    """
    folder = _named()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _named() -> Path | None:
    own = os.environ.get("DOWNSCALE_CACHE", "").strip()
    if own:
        return None if own.lower() == "off" else Path(own).expanduser().absolute()
    common = os.environ.get("XDG_CACHE_HOME", "").strip()
    if Path(common).is_absolute():
        return Path(common) / "downscale"
    try:
        return Path.home() / ".cache" / "downscale"
    except RuntimeError:
        return None


def to_disk(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
