"""What may be written where: names that stay inside their folder, and no writing through links."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from downscale.errors import InputDataError, OutputExistsError


def stays_inside(name: object) -> bool:
    """Whether a text as the name of a file or folder stays in the folder it is put into."""
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and "\0" not in name


def require_inside(names: Iterable[object], where: Path) -> None:
    """Refuse names from an artefact that could lead out of its folder (``../``, absolute paths).

    Args:
        names: that become parts of paths.
        where: the file or folder that states them.

    Raises:
        InputDataError: naming the first few.
    """
    bad = [repr(name) for name in names if not stays_inside(name)]
    if bad:
        raise InputDataError(
            f"a name in it leads out of its folder: {', '.join(bad[:3])}",
            where=str(where),
            hint="it was not written by downscale as it stands: copy it again from where it was made",
        )


def refuse_links(path: Path, *, below: Path | None = None) -> None:
    """Refuse to write where a symbolic link would lead elsewhere. Links above the folder of results are the user's own affair.

    Args:
        path: to be written, whether it exists or not.
        below: the folder of results; folders between it and ``path`` are looked at too.

    Raises:
        OutputExistsError: naming the link and where it leads.
    """
    between = [part for part in path.parents if below is not None and below in part.parents]
    for part in (*reversed(between), path):
        if part.is_symlink():
            raise _linked(part)


def refuse_links_inside(folder: Path) -> None:
    """Refuse a folder that holds a symbolic link, at any depth; OutputExistsError as refuse_links."""
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            refuse_links(Path(at) / name)


def _linked(path: Path) -> OutputExistsError:
    return OutputExistsError(
        "a symbolic link stands where results are written",
        where=f"{path} -> {path.readlink()}",
        hint="remove the link; to keep results on another disk, give that place as the workspace or output folder",
    )
