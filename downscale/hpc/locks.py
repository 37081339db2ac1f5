"""One writer a folder: a lock file made with O_EXCL, which also holds on Lustre and NFS, with a heartbeat."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from downscale.errors import OutputExistsError

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 180.0


@contextmanager
def folder_lock(folder: Path, *, force: bool = False) -> Iterator[None]:
    """Hold ``folder/.lock`` while the block runs.

    A lock is taken over when its process is dead (same host) or its heartbeat is older than three minutes (another host).

    Args:
        folder: made when it does not exist.
        force: take over a lock whatever it says (``--force-unlock``).

    Raises:
        OutputExistsError: another live process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    token = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", ""), "since": time.time()}
    _acquire(path, token, force=force)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        if _read(path).get("since") == token["since"]:
            path.unlink(missing_ok=True)


def _acquire(path: Path, token: dict[str, object], *, force: bool) -> None:
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            owner = _read(path)
            if not force and _alive(path, owner):
                raise OutputExistsError(
                    f"another process is writing here: {_describe(owner)}",
                    where=str(path.parent),
                    hint="wait for it; if you are sure that it is gone, run again with --force-unlock",
                ) from None
            path.unlink(missing_ok=True)
            continue
        with os.fdopen(descriptor, "w") as stream:
            json.dump(token, stream)
        return
    raise OutputExistsError("another process took the lock first", where=str(path.parent), hint="run again when it has finished")


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(path)
        except OSError:
            return


def _read(path: Path) -> dict[str, object]:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _alive(path: Path, owner: dict[str, object]) -> bool:
    if owner.get("host") == socket.gethostname():
        try:
            os.kill(int(str(owner.get("pid"))), 0)
        except (ProcessLookupError, ValueError):
            return False
        except PermissionError:
            return True
        return True
    try:
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False


def _describe(owner: dict[str, object]) -> str:
    job = f", job {owner['job']}" if owner.get("job") else ""
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}{job}"
