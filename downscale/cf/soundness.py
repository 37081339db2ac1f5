"""Whether one file is whole, as far as its header, its first bytes and its size tell."""

from __future__ import annotations

import stat
from pathlib import Path

from downscale.cf import classic
from downscale.cf.header import FileHeader, OversizedError, read_header

_HDF5 = b"\x89HDF\r\n\x1a\n"


def header_or_problem(path: Path, resolved: Path) -> FileHeader | str:
    """A file's header, or what is wrong with the file (F01-F04, F08, X11)."""
    problem = _problem(path)
    if problem is not None:
        return problem
    try:
        return read_header(path, resolved)
    except OversizedError as error:
        return str(error)
    except UnicodeEncodeError:
        return "its name is not UTF-8, which the netCDF library cannot open: rename it, or link to it under another name"
    except (OSError, RuntimeError, ValueError, AttributeError, KeyError, TypeError) as error:
        return f"{_format(path)} that cannot be opened, truncated or damaged ({_first_line(error)})"


def _problem(path: Path) -> str | None:
    """What is wrong with a file as far as its first bytes and its size tell; None when nothing is."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "symbolic link to nothing" if path.is_symlink() else f"not accessible ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "a directory, not a file"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    try:
        with path.open("rb") as stream:
            start = stream.read(512)
    except OSError as error:
        return f"not readable ({error.strerror})"
    if not start:
        return "empty file"
    if start[:4] in classic.MAGIC:
        return _classic_problem(path)
    if start.startswith(_HDF5):
        return None
    return f"not netCDF (starts with {_printable(start)})"


def _classic_problem(path: Path) -> str | None:
    try:
        missing = classic.shortfall(path)
    except OversizedError as error:
        return str(error)
    if missing < 0:
        return "netCDF-3 file with a cut or damaged header, truncated?"
    return f"netCDF-3 file, truncated: {missing} bytes are missing at its end" if missing else None


def _format(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return "netCDF-4 file" if stream.read(8) == _HDF5 else "netCDF-3 file"
    except OSError:
        return "file"


def _printable(start: bytes) -> str:
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in start.lstrip()[:24])
    return f"'{text.split('>')[0]}{'>' if '>' in text else ''}'"


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
