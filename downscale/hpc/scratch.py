"""A copy of a store on a disk of the node itself: verified, used by the processes of one command on this node, removed at its end."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from downscale.hpc.locks import folder_lock, holder
from downscale.hpc.ranks import place

log = logging.getLogger(__name__)
_NAME, _MARK = "downscale-copy", "verified"
_PIECE = 2**24
_ROOM = 1.02
"""Free space wanted, as a multiple of the store's size."""


def scratch_folder(text: str) -> Path | None:
    """The folder of ``hpc.scratch``: a path, or ``$NAME`` for the folder that a variable of the job names; None where it is not set."""
    if not text.startswith("$"):
        return Path(text)
    named = os.environ.get(text[1:].strip("{}"), "")
    return Path(named) if named else None


@contextmanager
def local_copy(store: Path, scratch: str, *, meet: Callable[[], None], stopped: Callable[[], bool]) -> Iterator[Path | None]:
    """The copy while the block runs; None, with a warning, where there can be none: then the store itself is read.

    Args:
        store: folder to copy.
        scratch: see scratch_folder.
        meet: returns when all processes of the command have called it; one on each node copies, the others wait for it.
        stopped: looked at after each file; once true, no copy is made.
    """
    with ExitStack() as stack:
        target = _target(scratch)
        if target is not None and place().local == 0:
            stack.enter_context(_filled(target, store, stopped))
        meet()
        copy = target / store.name if target is not None and _ours(target) and (target / _MARK).exists() else None
        log.info("days are read from the copy %s", copy) if copy else log.warning("no copy in %s: days are read from %s", scratch, store)
        yield copy
        meet()


def _target(scratch: str) -> Path | None:
    """Where the processes of this command keep their copy."""
    folder = scratch_folder(scratch)
    if folder is None:
        log.warning("hpc.scratch: the variable %s is not set here", scratch)
        return None
    here = place()
    return folder / f"{_NAME}-{here.host}-{here.port}" if here.world > 1 else folder / f"{_NAME}-{os.getpid()}"


@contextmanager
def _filled(target: Path, store: Path, stopped: Callable[[], bool]) -> Iterator[None]:
    """The copy in its folder, marked when it is whole and verified. What goes wrong is a warning."""
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_left(target.parent)
            target.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, target, ignore_errors=True)
            stack.enter_context(folder_lock(target))
            _copy(store, target / store.name, stopped)
            (target / _MARK).touch()
        except OSError as error:
            log.warning("hpc.scratch: %s", error)
            shutil.rmtree(target / store.name, ignore_errors=True)
        yield


def _copy(store: Path, copy: Path, stopped: Callable[[], bool]) -> None:
    """Every file, read back and compared; OSError where one differs, or there is no room."""
    files = [Path(at, name) for at, _, names in os.walk(store) for name in names]
    need, free = sum(path.stat().st_size for path in files), shutil.disk_usage(copy.parent).free
    if _ROOM * need > free:
        raise OSError(f"{copy.parent} has {free / 1e9:.1f} GB free, {store.name} takes {need / 1e9:.1f} GB")
    log.info("%s, %.2f GB in %d files, is copied to %s", store, need / 1e9, len(files), copy.parent)
    for path in files:
        if stopped():
            raise OSError("stopped while copying")
        other = copy / path.relative_to(store)
        other.parent.mkdir(parents=True, exist_ok=True)
        if _digest(path, other) != _digest(other):
            raise OSError(f"{other} is not what was copied")


def _digest(path: Path, copy: Path | None = None) -> bytes:
    """Of a file, which is copied meanwhile where ``copy`` says so."""
    digest = hashlib.blake2b()
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        into = stack.enter_context(copy.open("xb")) if copy is not None else None
        while piece := stream.read(_PIECE):
            digest.update(piece)
            if into is not None:
                into.write(piece)
    return digest.digest()


def _ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid()


def _remove_left(scratch: Path) -> None:
    """Copies of commands that were killed."""
    for folder in scratch.glob(f"{_NAME}-*"):
        if _ours(folder) and not holder(folder / ".lock"):
            shutil.rmtree(folder, ignore_errors=True)
