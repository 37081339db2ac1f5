"""Room for results: whether one may write there, whether it will fit, and what to say when the disk is full."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from downscale.errors import ConfigError, DiskFullError
from downscale.hpc.doctor import is_writable, nearest_folder

log = logging.getLogger(__name__)
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_PROBE_BYTES = 2**24
_LEAST, USUAL = 0.2, 0.6
"""Share of its bytes in memory that climate data take on disk: at the very best, and usually."""


def require_writable(folder: Path) -> None:
    """Refuse a folder of results that cannot be made or written, before any work; nothing is written to find out.

    Raises:
        ConfigError: naming the folder and what stands in the way.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        problem = "a link that leads nowhere is" if there.is_symlink() else "a file is"
        raise ConfigError(
            "results cannot be written there", where=f"{folder}: {problem} in the way at {there}", hint="give another workspace"
        )
    if not is_writable(folder):
        raise ConfigError(
            "results cannot be written there",
            where=f"{folder}: {there} may not be written by this user, or is on a read-only disk",
            hint="give another workspace, or ask for the right to write",
        )


def make_folder(folder: Path) -> None:
    """Make a folder of results; where the system refuses after all (special file systems, a race), ConfigError as require_writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise ConfigError("results cannot be written there", where=f"{folder}: {error.strerror}", hint="give another workspace") from None


def parse_size(text: str, option: str) -> int:
    """Bytes of ``2GB``, ``1.5 GiB``, ``500M`` or a plain number; ConfigError for anything else, naming the option."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"{option}: '{text}' is not a size", hint="e.g. 2GB, 1.5GiB, 500MB")
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def require_space(folder: Path, need: int, files: int) -> None:
    """Refuse what cannot fit at the best compression, and say so where it may not fit at the usual one.

    Args:
        folder: of the results; need not exist.
        need: bytes to write, before compression.
        files: number of files to write.

    Raises:
        DiskFullError: with the free space and the path.
    """
    free, stats = free_space(folder), os.statvfs(nearest_folder(folder))
    if _LEAST * need > free:
        raise DiskFullError(
            f"the disk has no room: {need / 1e9:.1f} GB before compression, {free / 1e9:.1f} GB are free",
            where=str(folder),
            hint="free some space, or give a workspace on another disk",
        )
    if stats.f_files and files > stats.f_favail:
        raise DiskFullError(
            f"the disk has no room: {files:,} files, {stats.f_favail:,} inodes are free", where=str(folder), hint="remove some files"
        )
    if USUAL * need > free:
        log.warning("%s: %.1f GB before compression, %.1f GB are free: it may not fit", folder, need / 1e9, free / 1e9)


def free_space(folder: Path) -> int:
    """Bytes that this user may still write where a folder is or would be made."""
    return shutil.disk_usage(nearest_folder(folder)).free


def why_full(unfinished: Path) -> str:
    """What the system says to more bytes at the end of a file that failed and is removed next; "" where it takes them.

    HDF5 tells of a full disk, a quota or a limit on file sizes as of any other failure.
    """
    try:
        with unfinished.open("ab") as stream:
            stream.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return full_words(error)
    return ""


def full_words(error: OSError) -> str:
    """A full disk in words; "" for any other failure."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return str(error.strerror) if error.errno in _FULL else ""


@contextmanager
def telling_full_disk(path: Path, *, kept: str) -> Iterator[None]:
    """Turn the system's word for a full disk, a quota or a limit on file sizes into an error with the path and the free space.

    Args:
        path: where results go.
        kept: what a user finds there and can do, for the hint.
    """
    try:
        yield
    except OSError as error:
        told = full_disk(error, path, kept=kept)
        if told is None:
            raise
        raise told from None


def full_disk(error: OSError, path: Path, *, kept: str) -> DiskFullError | None:
    """The error to raise where writing failed for want of space; None for any other failure."""
    words = full_words(error)
    if not words:
        return None
    free = free_space(path)
    return DiskFullError(f"writing failed: {words}; {free / 1e9:.1f} GB are free on this disk", where=str(path), hint=kept)
