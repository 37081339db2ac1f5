"""Which files globs, paths and folders name: CORDEX and CMIP trees, their versions, links, and what is no input."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_VERSION = re.compile(r"v\d{8}")


@dataclass(frozen=True)
class Found:
    """One file, once.

    Attributes:
        path: as the pattern gives it.
        resolved: after symbolic links.
        status: of the file behind the links; None when there is none.
        note: what was assumed when it was chosen.
    """

    path: Path
    resolved: Path
    status: os.stat_result | None
    note: str = ""


def expand(patterns: Iterable[str | Path]) -> tuple[list[Found], list[str]]:
    """Files that the patterns name, sorted and each once, and one line per pattern that names none.

    A folder stands for all ``*.nc`` below it, links to folders followed; hidden and ``.partial`` ones are passed over, unless named
    themselves. Where versions ``vYYYYMMDD`` of one file are found (DRS of CMIP and CORDEX) the latest is taken and noted. A file that
    several names lead to is taken under the shortest of them.
    """
    found: dict[str, Found] = {}
    problems = []
    links = _Links()
    for pattern in map(str, patterns):
        names = list(_named_by(pattern))
        if not names:
            problems.append(f"{pattern}: {_nothing(pattern)}")
        for name in names:
            one = links.follow(name)
            before = found.setdefault(str(one.resolved), one)
            if (len(name), name) < (len(str(before.path)), str(before.path)):
                found[str(one.resolved)] = one
    return _latest(list(found.values())), problems


def _named_by(pattern: str) -> Iterator[str]:
    """Paths of the files that a path, glob or folder names."""
    if os.path.lexists(pattern):
        matches = [pattern]
    else:
        matches = [match for match in glob.glob(pattern, recursive=True) if ".partial" not in os.path.basename(match)]  # noqa: PTH119, PTH207
    for match in sorted(matches):
        if os.path.isdir(match) and not match.endswith(".nc"):  # noqa: PTH112
            yield from _tree(match)
        else:
            yield match


def _nothing(pattern: str) -> str:
    if os.path.lexists(pattern):
        return "no *.nc file in this folder or below it"
    return "no file matches" if glob.has_magic(pattern) else "no such file"


class _Links:
    """Where paths lead; the folders of ten thousand files are resolved once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def follow(self, name: str) -> Found:
        folder, base = os.path.split(name)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        path, resolved = Path(name), self._folders[folder] + os.sep + base
        try:
            status = os.lstat(resolved)
            if stat.S_ISLNK(status.st_mode):
                resolved = os.path.realpath(resolved)
                status = os.stat(resolved)  # noqa: PTH116
        except OSError:
            return Found(path, Path(resolved), None)
        return Found(path, path if resolved == name else Path(resolved), status)


def _tree(folder: str) -> Iterator[str]:
    """All ``*.nc`` below a folder; a circle of links is walked once."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _passed_over(name) and not name.endswith(".nc"))
        yield from (os.path.join(place, name) for name in sorted(files) if name.endswith(".nc") and not _passed_over(name))  # noqa: PTH118


def _passed_over(name: str) -> bool:
    return name.startswith(".") or ".partial" in name


def _latest(files: list[Found]) -> list[Found]:
    """Of the versions of one file the latest, with a note on the others."""
    versions: dict[tuple[str, ...], list[tuple[str, Found]]] = {}
    for one in files:
        parts = one.path.parts
        place = next((index for index in range(len(parts) - 2, -1, -1) if _VERSION.fullmatch(parts[index])), None)
        key = parts if place is None else (*parts[:place], "v", *parts[place + 1 :])
        versions.setdefault(key, []).append(("" if place is None else parts[place], one))
    chosen = []
    for group in versions.values():
        group.sort(key=lambda pair: pair[0])
        version, one = group[-1]
        older = ", ".join(name for name, _ in group[:-1])
        note = f"files of version {version} are taken where {older} are there too" if older else ""
        chosen.append(Found(one.path, one.resolved, one.status, note) if note else one)
    return sorted(chosen, key=lambda one: one.path)
