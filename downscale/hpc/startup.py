"""What a process does first so that it starts and ends quickly, and what it does last."""

from __future__ import annotations

import atexit
import gc
import os
import signal
from pathlib import Path

import downscale

_MANY = 10_000
_own = False
"""Whether this process is ours from its first line to its last: a command or a worker, not somebody's program or a test."""


def begin() -> None:
    """What a process does first: Python's collector of cycles runs more rarely, and not at the very end; HDF5 locks no files.

    Loading PyTorch and xarray makes half a million objects that all stay; looking through them again and again takes a fifth of the time
    of a start, and more than half a second when the process ends. HDF5 locks each file that it opens, and fails where a parallel file
    system refuses that (errno 37, 524); what is written here has locks of its own. HDF5_USE_FILE_LOCKING, where it is set, is obeyed.
    """
    global _own
    _own = True
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    gc.set_threshold(_MANY, 10, 10)
    atexit.register(gc.freeze)


def is_own() -> bool:
    """Whether this process has begun with ``begin``."""
    return _own


def settle() -> None:
    """What a process does last: a batch system's signal that comes when all is done must not make a failure of it."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def afresh(code: str) -> str:
    """Python code for ``python -P -c`` that finds this package where it is now, starts quickly, and then runs ``code``."""
    root = str(Path(downscale.__file__).parents[1])
    return f"import sys; sys.path.insert(0, {root!r})\nfrom downscale.hpc.startup import begin; begin()\n{code}"
