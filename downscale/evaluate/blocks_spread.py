"""Who does the blocks of an evaluation: this process, some threads of it, processes of its own, or the workers of a running Dask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from downscale.evaluate.blocks import Spread, one_by_one
from downscale.hpc.dask_pool import Pool
from downscale.hpc.dask_worker import Hands

LOCAL = "local"
_AHEAD = 1
"""Tasks given to threads beyond one for each: what waits holds memory."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def spreading(scheduler: str | None = None, workers: int | None = None, *, threads: bool = False) -> Iterator[Spread]:
    """A Spread for as long as the block lasts.

    Args:
        scheduler: "local": processes of one's own; an address or scheduler file: the workers of a running Dask; None: neither.
        workers: how many; None: one, or with threads and with a scheduler as many as there are cores or workers.
        threads: without a scheduler, several workers are threads, not processes.

    Raises:
        EnvironmentMissingError: no scheduler answers.
    """
    if scheduler is None and (threads or (workers or 1) == 1):
        count = workers or (usable_cores() if threads else 1)
        yield one_by_one if count == 1 else _in_threads(count)
    elif scheduler is None or scheduler == LOCAL:
        count = workers or usable_cores()
        if count == 1:
            yield one_by_one
        else:
            with Hands(count - 1, __name__) as hands, Pool(local=hands) as pool:
                yield lambda work, tasks: pool.run(work, tasks, _never, own=work)
    else:
        with Pool(scheduler=scheduler, workers=workers) as pool:
            yield lambda work, tasks: pool.run(work, tasks, _never)


def _in_threads(count: int) -> Spread:
    def spread(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
        with ThreadPoolExecutor(count) as pool:
            pending: set[Future[Any]] = set()
            for task in tasks:
                while len(pending) >= count + _AHEAD:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
                pending.add(pool.submit(work, *task))
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)

    return spread


def _never() -> bool:
    return False
