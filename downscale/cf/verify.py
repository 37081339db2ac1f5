"""Files against a list of their checksums: the only way to see damage in data that are not compressed (FAULTS F06)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from downscale.cf.paths import expand
from downscale.errors import InputDataError

log = logging.getLogger(__name__)
_SUMS = re.compile(r"^\\?(?P<sum>[0-9a-fA-F]{32,128}) [ *](?P<name>.+)$")
_TAGGED = re.compile(r"^(?P<kind>SHA\d+|MD5) \((?P<name>.+)\) = (?P<sum>[0-9a-fA-F]{32,128})$", re.IGNORECASE)
_ESGF = re.compile(r"^'(?P<name>[^']+)' '[^']*' '(?P<kind>[A-Za-z0-9-]+)' '(?P<sum>[0-9a-fA-F]{32,128})'")
_KINDS = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}


@dataclass(frozen=True)
class _Sum:
    kind: str
    value: str


def verify(paths: Sequence[str | Path], checksums_file: str | Path) -> int:
    """Hold files against a list of checksums.

    Args:
        paths: files, globs and folders, as in a source's ``files``.
        checksums_file: lines of sha256sum (or md5sum ...), with or without ``--tag``, or of an ESGF wget script. A file is looked up by
            its path relative to the list, else by its name where that is listed with one sum only.

    Returns:
        How many files were verified.

    Raises:
        InputDataError: with one finding for each file whose sum differs, that is not on the list, or that cannot be read; or the list
            cannot be read or holds no sums.
    """
    place = Path(checksums_file)
    listed = _read(place)
    files, findings = expand(paths)
    for one in files:
        problem = _problem(one.path, listed, place.absolute().parent)
        if problem:
            findings.append(f"{one.path}: {problem}")
    if findings:
        many = len(findings) > 1
        raise InputDataError(
            f"{len(findings)} input files do not agree with the checksums" if many else "an input file fails its checksum",
            where=f"list: {place}" if many else f"{findings[0]} (list: {place})",
            hint="fetch these files again, or bring the list up to date",
            findings=sorted(findings) if many else (),
        )
    log.info("%d files agree with the checksums of %s", len(files), place)
    return len(files)


def _read(place: Path) -> dict[str, set[_Sum]]:
    """Sums by the names of the list, and by the bare file names."""
    try:
        lines = place.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise InputDataError("the list of checksums cannot be read", where=str(place), hint=str(error.strerror)) from None
    listed: dict[str, set[_Sum]] = {}
    for line in lines:
        match = _SUMS.match(line) or _TAGGED.match(line) or _ESGF.match(line)
        if match is None:
            continue
        value = match["sum"].lower()
        kind = match.groupdict().get("kind") or _KINDS.get(len(value), "")
        name = match["name"].removeprefix("./")
        for key in {name, Path(name).name}:
            listed.setdefault(key, set()).add(_Sum(kind.lower().replace("-", ""), value))
    if not listed:
        raise InputDataError("no checksums in the list", where=str(place), hint="give the output of sha256sum, or an ESGF wget script")
    return listed


def _problem(path: Path, listed: dict[str, set[_Sum]], base: Path) -> str | None:
    absolute = path.absolute()
    names = [str(absolute.relative_to(base))] if absolute.is_relative_to(base) else []
    sums = next((listed[name] for name in (*names, str(absolute), path.name) if name in listed), None)
    if sums is None:
        return "not in the list of checksums"
    if len(sums) > 1:
        return f"the list holds {len(sums)} different checksums for this name"
    (wanted,) = sums
    if wanted.kind not in hashlib.algorithms_available:
        return f"its checksum is of a kind that is not known ({wanted.kind or len(wanted.value)})"
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, wanted.kind).hexdigest()
    except OSError as error:
        return f"not readable ({error.strerror})"
    return None if found == wanted.value else f"{wanted.kind} is {found[:16]}..., the list says {wanted.value[:16]}..."
