"""What a process does first so that it starts and ends quickly, and what it does last."""

from __future__ import annotations

import atexit
import gc
import signal
from pathlib import Path

import downscale

_MANY = 10_000


def quicken() -> None:
    """Let Python's collector of cycles run more rarely, and not at the very end.

    Loading PyTorch and xarray makes half a million objects that all stay; looking through them again and again takes a fifth of the time
    of a start, and more than half a second when the process ends.
    """
    gc.set_threshold(_MANY, 10, 10)
    atexit.register(gc.freeze)


def settle() -> None:
    """What a process does last: a batch system's signal that comes when all is done must not make a failure of it."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def afresh(code: str) -> str:
    """Python code for ``python -P -c`` that finds this package where it is now, starts quickly, and then runs ``code``."""
    root = str(Path(downscale.__file__).parents[1])
    return f"import sys; sys.path.insert(0, {root!r})\nfrom downscale.hpc.startup import quicken; quicken()\n{code}"
