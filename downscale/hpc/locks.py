"""One writer a folder, one worker a piece of work: a lock file made with O_EXCL, which also holds on Lustre and NFS; its heartbeat."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from downscale.errors import OutputExistsError
from downscale.hpc.notes import read_note
from downscale.hpc.walltime import has_ended, is_suspended, own_job

log = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 600.0


class LockHeldError(OutputExistsError):
    """Another live process holds the lock."""


@contextmanager
def folder_lock(folder: Path, *, force: bool = False, name: str = ".lock") -> Iterator[None]:
    """Hold a lock file in a folder while the block runs.

    A lock is taken over when its process is dead (same host, same namespace of processes). Elsewhere its heartbeat counts: when that is
    older than ten minutes and SLURM does not say that the job is suspended, or older than one and SLURM says that it has ended.

    Args:
        folder: made when it does not exist.
        force: take over a lock whatever it says (``--force-unlock``).
        name: of the lock file.

    Raises:
        LockHeldError: another live process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    token: dict[str, object] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "namespace": _namespace(),
        "job": own_job(),
        "restart": os.environ.get("SLURM_RESTART_COUNT", ""),
        "since": time.time(),
        "id": uuid.uuid4().hex,
    }
    _acquire(path, token, force=force)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        if read_note(path).get("id") == token["id"]:
            path.unlink(missing_ok=True)


def holder(path: Path) -> str:
    """Who holds a lock file, in words; empty where nobody alive does."""
    owner = read_note(path)
    return _describe(owner) if owner and _alive(path, owner) else ""


def clear_dead(path: Path) -> None:
    """Remove a lock file that nobody alive holds, as a process that was killed leaves it; one that is held stays."""
    owner = read_note(path)
    if path.exists() and not _alive(path, owner):
        _set_aside(path, owner)


def _acquire(path: Path, token: dict[str, object], *, force: bool) -> None:
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            owner = read_note(path)
            if not force and _alive(path, owner):
                raise LockHeldError(
                    f"another process is writing here: {_describe(owner)}",
                    where=str(path.parent),
                    hint="wait for it; if you are sure that it is gone, run again with --force-unlock",
                ) from None
            _set_aside(path, owner)
            continue
        with os.fdopen(descriptor, "w") as stream:
            json.dump(token, stream)
        return
    raise LockHeldError("another process took the lock first", where=str(path.parent), hint="run again when it has finished")


def _set_aside(path: Path, owner: dict[str, object]) -> None:
    """Remove a dead lock; one that somebody else has put in its place meanwhile is put back."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if read_note(aside) != owner:
        with suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(path)
        except FileNotFoundError:
            return
        except OSError as error:  # a file server that is away for a while
            log.debug("%s: no heartbeat: %s", path, error)


def _alive(path: Path, owner: dict[str, object]) -> bool:
    """Whether the process of a lock still works; a lock without a word in it is being written, or was left so."""
    if owner.get("host") == socket.gethostname() and owner.get("namespace", _namespace()) == _namespace():
        try:
            os.kill(int(str(owner.get("pid"))), 0)
        except (ProcessLookupError, ValueError):
            return False
        except PermissionError:
            pass
        started = _started(int(str(owner.get("pid"))))
        return not started or owner.get("started", started) == started
    age = _age(path)
    if owner.get("job") and age >= STALE_SECONDS:
        return is_suspended(str(owner["job"]))
    if owner.get("job") and age > 3 * HEARTBEAT_SECONDS:
        return not has_ended(str(owner["job"]), str(owner.get("restart", "")))
    return age < (STALE_SECONDS if owner else HEARTBEAT_SECONDS)


def _namespace() -> str:
    """In which process numbers mean the same: two containers on a host have the host's name, and processes 1 of their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in the system's own ticks, so that a number used again is seen; empty where nobody says."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return facts[19] if facts[0] != "Z" else "ended"
    except (OSError, IndexError):
        return ""


def _age(path: Path) -> float:
    """Seconds since the last heartbeat, by the clock of the disk that the lock lies on."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        try:
            return probe.stat().st_mtime - path.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except FileNotFoundError:
        return float("inf")
    except OSError:
        return 0.0


def _describe(owner: dict[str, object]) -> str:
    job = f", job {owner['job']}" if owner.get("job") else ""
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}{job}"
