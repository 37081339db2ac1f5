"""One local worker process: ``serve`` joins a scheduler and works until its parent is gone.

It is started afresh, so nothing of the caller's program runs again. Signals that a terminal or a batch system sends to all processes of a
job are its parent's affair: it finishes its task and ends when the pipe from its parent closes, which also happens when the parent is
killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from downscale.hpc.startup import afresh

_START = "from downscale.hpc.dask_worker import serve; serve()"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS")


class Hands:
    """Worker processes of one thread each, started before the scheduler that they will join, so that they load their libraries meanwhile.

    A context manager; at its end the processes end.

    Args:
        count: of processes.
        module: of the functions that they will be given, loaded at once.
    """

    def __init__(self, count: int, module: str) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="downscale-workers-"))
        self.processes = [_start(module, self.scratch) for _ in range(count)]

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, *details: object) -> None:
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self.processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def join(self, address: str) -> None:
        """Send all of them to a scheduler, ``tcp://HOST:PORT``."""
        for process in self.processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it is dead already, which the pool will see
                process.stdin.write(f"{address}\n".encode())
                process.stdin.flush()


def _start(module: str, scratch: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", afresh(_START), module, str(scratch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        start_new_session=True,
    )


def serve() -> None:
    """Load what will be needed, then work for the scheduler whose address comes on the standard input, until that ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    importlib.import_module("distributed")
    importlib.import_module(sys.argv[1])
    address = os.read(0, 4096).decode().strip()  # one short line, written at once
    if address:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        asyncio.run(_work(address, sys.argv[2]))


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    shutil.rmtree(sys.argv[2], ignore_errors=True)  # a parent that was killed cannot
    os._exit(0)


async def _work(address: str, scratch: str) -> None:
    from distributed import Worker

    async with Worker(address, nthreads=1, memory_limit=0, local_directory=scratch, dashboard=False, silence_logs=50) as worker:
        await worker.finished()
