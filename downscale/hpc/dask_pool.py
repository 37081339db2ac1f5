"""Tasks over processes: local ones, or the workers of a running Dask scheduler.

A task is a plain function of plain values; it opens its files itself, and what it returns is small. Neighbouring tasks go to the same
worker, because they read the same files; a worker that has done its share takes half of what another has left. With local processes the
one that asks works, too: it has everything open already and begins while the others start.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from downscale.errors import DownscaleError, EnvironmentMissingError
from downscale.hpc.dask_worker import Hands

Task = tuple[Any, ...]
_AHEAD = 2
"""Tasks that a worker holds: one in work, one waiting, so that it is never idle while the next is on its way; near the end only one."""
_LOOK_SECONDS = 5.0
_OWN = "own"
"""The share of this process, beside the addresses of the workers."""
_WAIT_SECONDS = 600.0
_TOLD_SECONDS = 3.0
"""A batch system that ends a job tells its processes one after the other."""


class WorkersGoneError(DownscaleError):
    """Whoever did the work has ended; what was done is not lost."""


class Shares:
    """Tasks in order, shared out in stretches.

    Args:
        tasks: in the order in which neighbours belong together.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._loose: deque[Task] = deque(tasks)
        self._of: dict[str, deque[Task]] = {}

    def settle(self, workers: Sequence[str]) -> None:
        """Tell who works now: the stretches of those that are gone are free to take, and loose tasks are dealt to all."""
        for gone in set(self._of) - set(workers):
            self._loose.extend(self._of.pop(gone))
        for worker in workers:
            self._of.setdefault(worker, deque())
        if workers and self._loose:
            size = -(-len(self._loose) // len(workers))
            for worker in workers:
                self._of[worker].extend(self._loose.popleft() for _ in range(min(size, len(self._loose))))

    def take(self, worker: str) -> Task | None:
        """The next task for a worker: of its own stretch, else the later half of the longest one becomes its own."""
        own = self._of[worker]
        if not own:
            longest = max(self._of.values(), key=len)
            own.extendleft(longest.pop() for _ in range(-(-len(longest) // 2)))
        return own.popleft() if own else None


class Pool:
    """Worker processes behind one call, ``run``; a context manager.

    Args:
        local: processes of one's own; None: the workers of a scheduler.
        scheduler: address (``tcp://...``) or scheduler file of a running Dask.
        workers: how many of a scheduler's; None: all that it has.

    Raises:
        EnvironmentMissingError: the scheduler's file is not there, or no scheduler answers.
    """

    def __init__(self, *, local: Hands | None = None, scheduler: str = "", workers: int | None = None) -> None:
        self._wanted = workers
        self._stack = contextlib.ExitStack()
        self._local = local.processes if local is not None else []
        try:
            self._client = self._stack.enter_context(_connect(scheduler) if local is None else self._gather(local))
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def _gather(self, local: Hands) -> Any:
        from distributed import Client, LocalCluster

        cluster = self._stack.enter_context(
            LocalCluster(
                n_workers=0, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address="127.0.0.1:0",
                silence_logs=50,
            )
        )  # fmt: skip
        local.join(cluster.scheduler_address)
        return Client(cluster)

    def run(
        self, work: Callable[..., Any], tasks: Sequence[Task], stop: Callable[[], bool], *, own: Callable[..., Any] | None = None
    ) -> Iterator[Any]:
        """Results in the order in which they are done.

        Args:
            work: a function of a module that the workers can import.
            tasks: its arguments.
            stop: asked about twice a second; once true, no task is given out any more, and those that were are waited for.
            own: the same for tasks that this process does itself; None: it does none.

        Raises:
            WorkersGoneError: a local worker process or the scheduler ended, but for one that ended because all were told to: there ``stop``
                is true soon, and what is not done is left.
            DownscaleError: no worker came.
        """
        try:
            yield from self._run(work, tasks, stop, own)
        except _lost_connections() as error:
            until = time.monotonic() + _TOLD_SECONDS
            while not stop() and time.monotonic() < until:
                time.sleep(0.05)
            if not stop():
                raise self._scheduler_gone() from error

    def _run(
        self, work: Callable[..., Any], tasks: Sequence[Task], stop: Callable[[], bool], own: Callable[..., Any] | None
    ) -> Iterator[Any]:  # fmt: skip
        shares, done = Shares(tasks), SimpleQueue[Any]()
        held: dict[str, str] = {}
        workers: list[str] = []
        looked = -_LOOK_SECONDS
        left = len(tasks)
        while left if not stop() else held:
            if len(workers) < len(self._local) or time.monotonic() - looked > _LOOK_SECONDS:
                workers = self._workers(stop, wait=own is None)
                shares.settle([_OWN, *workers] if own is not None else workers)
                looked = time.monotonic()
            for worker in workers if not stop() else ():
                ahead = _AHEAD if left - len(held) > _AHEAD * len(workers) else 1
                while list(held.values()).count(worker) < ahead and (task := shares.take(worker)) is not None:
                    future = self._submit(work, task, worker)
                    held[future.key] = worker
                    future.add_done_callback(done.put)
            mine = shares.take(_OWN) if own is not None and not stop() else None
            if own is not None and mine is not None:
                left -= 1
                yield own(*mine)
            for future in _finished(done, wait=mine is None):
                held.pop(future.key)
                left -= 1
                yield self._result(future)
            self._require_alive()

    def _submit(self, work: Callable[..., Any], task: Task, worker: str) -> Any:
        return self._client.submit(work, *task, workers=[worker], allow_other_workers=not self._local, pure=False)

    def _result(self, future: Any) -> Any:
        """What a task that is done gave; it lies with its worker, which may have died since."""
        from distributed.scheduler import KilledWorker

        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except KilledWorker:
                raise _killed("several times over the same task") from None
            except TimeoutError:
                if future.status == "error":
                    raise
                self._require_alive()

    def _workers(self, stop: Callable[[], bool], *, wait: bool) -> list[str]:
        """Addresses of the workers; where they are waited for, at least one."""
        until = time.monotonic() + _WAIT_SECONDS
        while not (found := sorted(self._client.nthreads())) and wait:
            self._require_alive()
            if stop():
                return []
            if time.monotonic() > until:
                raise DownscaleError(
                    "no worker has joined the scheduler",
                    where=str(self._client.scheduler.address),
                    hint="start workers: dask worker ADDRESS",
                )
            time.sleep(0.05)
        return found[: self._wanted]

    def _scheduler_gone(self) -> WorkersGoneError:
        self._require_alive()
        return WorkersGoneError(
            "the Dask scheduler has ended, or cannot be reached any more",
            where=str(self._client.scheduler.address) if self._client.scheduler else "",
            hint="look at its log, start one again, then run the same command: it goes on from what is done",
        )

    def _require_alive(self) -> None:
        for process in self._local:
            if process.poll() is not None:
                raise _killed(f"with status {process.returncode}")


def _finished(done: SimpleQueue[Any], *, wait: bool) -> Iterator[Any]:
    """Tasks that are done, those that are there; where there is nothing else to do, the first of them is waited for a little."""
    with contextlib.suppress(Empty):
        yield done.get(timeout=0.5 if wait else 0.0)
        while True:
            yield done.get_nowait()


def _killed(how: str) -> WorkersGoneError:
    return WorkersGoneError(
        f"a worker process ended {how}: out of memory, or killed from outside",
        where="local workers",
        hint="run the same command again, it goes on from what is done; with fewer --workers or a lower --max-memory if memory was short",
    )


def _lost_connections() -> tuple[type[Exception], ...]:
    """What calls on a client raise whose scheduler is gone."""
    from concurrent.futures import CancelledError

    from distributed.comm import CommClosedError

    return CancelledError, CommClosedError


def _connect(scheduler: str) -> Any:
    from distributed import Client

    is_file = "://" not in scheduler
    if is_file and not Path(scheduler).is_file():
        raise EnvironmentMissingError(
            "--scheduler: neither an address nor an existing file", where=scheduler, hint="give tcp://HOST:PORT or the scheduler file"
        )
    for name in ("distributed.client", "distributed.core", "distributed.utils", "distributed.comm", "distributed.batched"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they would tell of a lost scheduler is told in words
    try:
        return Client(scheduler_file=scheduler, timeout=30) if is_file else Client(scheduler, timeout=30)
    except (OSError, ValueError, TimeoutError, KeyError) as error:
        raise EnvironmentMissingError(
            f"--scheduler: no scheduler answers: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=scheduler,
            hint="start one with 'dask scheduler --scheduler-file FILE' and workers with 'dask worker --scheduler-file FILE'",
        ) from None
