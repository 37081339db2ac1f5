"""Which files there are, and whether they are whole. All bad files are reported together, before anything is read."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from downscale.cf import classic
from downscale.cf.header import FileHeader, read_header
from downscale.errors import InputDataError

log = logging.getLogger(__name__)
_HDF5 = b"\x89HDF\r\n\x1a\n"


def expand(patterns: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Paths that the patterns name, sorted and each file once, and one line per pattern that names none."""
    found: dict[str, Path] = {}
    problems = []
    for pattern in map(str, patterns):
        matches = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns
        if not matches:
            problems.append(f"{pattern}: {'no file matches' if glob.has_magic(pattern) else 'no such file'}")
        for match in matches:
            found.setdefault(os.path.realpath(match), Path(match))
    return sorted(found.values()), problems


def scan(patterns: Sequence[str | Path]) -> list[FileHeader]:
    """Headers of all files that paths and globs name; the order of the patterns does not matter.

    Raises:
        InputDataError: with one finding for each pattern without a file and each file that is empty, truncated, not netCDF,
            unreadable or damaged (F01-F04, F08).
    """
    paths, findings = expand(patterns)
    headers = []
    for path in paths:
        problem = _problem(path)
        if problem is None:
            try:
                headers.append(read_header(path))
            except (OSError, RuntimeError, ValueError, AttributeError) as error:
                problem = f"{_format(path)} that cannot be opened, truncated or damaged ({_first_line(error)})"
        if problem is not None:
            findings.append(f"{path}: {problem}")
    if findings:
        raise InputDataError(
            f"{len(findings)} of the input files cannot be used" if len(findings) > 1 else "an input file cannot be used",
            where=findings[0] if len(findings) == 1 else "",
            hint="fetch them again or remove them from the list; nothing was written",
            findings=findings if len(findings) > 1 else (),
        )
    log.info("%d files catalogued", len(headers))
    return headers


def _problem(path: Path) -> str | None:
    """What is wrong with a file as far as its first bytes and its size tell; None when nothing is."""
    if path.is_symlink() and not path.exists():
        return "symbolic link to nothing"
    if path.is_dir():
        return "a directory, not a file"
    if not path.is_file():
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
    missing = classic.shortfall(path)
    if missing < 0:
        return "netCDF-3 file with a cut or damaged header, truncated?"
    return f"netCDF-3 file, truncated: {missing} bytes are missing at its end" if missing else None


def _format(path: Path) -> str:
    with path.open("rb") as stream:
        return "netCDF-4 file" if stream.read(8) == _HDF5 else "netCDF-3 file"


def _printable(start: bytes) -> str:
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in start.lstrip()[:24])
    return f"'{text.split('>')[0]}{'>' if '>' in text else ''}'"


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
