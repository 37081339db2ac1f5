"""One local worker process: ``serve`` joins a scheduler and works until its parent is gone.

It is started afresh, so nothing of the caller's program runs again. Signals that a terminal or a batch system sends to all processes of a
job are its parent's affair: it finishes its task and ends when the pipe from its parent closes, which also happens when the parent is
killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import downscale

_START = "from downscale.hpc.dask_worker import serve; serve()"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS")


def start_worker(address: str, scratch: Path) -> subprocess.Popen[bytes]:
    """Start a process with one worker of one thread.

    Args:
        address: of the scheduler, ``tcp://HOST:PORT``.
        scratch: an existing folder for the worker's own small files.
    """
    root = str(Path(downscale.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {root!r})\n{_START}"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, address, str(scratch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        start_new_session=True,
    )


def serve() -> None:
    """Work for the scheduler named on the command line until the standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_work(sys.argv[1], sys.argv[2]))


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


async def _work(address: str, scratch: str) -> None:
    from distributed import Worker

    async with Worker(address, nthreads=1, memory_limit=0, local_directory=scratch, dashboard=False, silence_logs=50) as worker:
        await worker.finished()
