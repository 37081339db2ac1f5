"""Training by several processes: each takes its share of every batch, and all hold the same weights at every step.

Nothing here wraps the network. The loss of a batch is a function of sums over its days, so the sums are added over the processes before
the loss is taken, and the gradients after it: the step is that of one process on the whole batch, up to rounding. Only what batch norm
measures and what random numbers do (dropout, augmentation) belongs to each process alone.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from downscale.errors import DownscaleError, Stopped
from downscale.hpc.ranks import Place, place
from downscale.hpc.signals import StopFlag

log = logging.getLogger(__name__)
STEP_TIMEOUT = timedelta(minutes=10)
"""Longest time that a process waits for the others within the training."""
_WAIT = timedelta(days=1)
"""Longest time that they wait for the first one, which alone prepares a run and publishes it."""
_LOOK = timedelta(seconds=2)
"""Longest time that a process that waits for others to begin does not look whether it was told to stop."""
_BUCKET = 2**23
"""Numbers that are sent together (32 MiB of float32)."""
_LEAST = 2
"""Days that a process needs for batch norm."""
_NEXT = 1_000_003


class Ranks:
    """The processes of one training; alone, every method gives back what it was given.

    Attributes:
        rank, world: number of this process, and how many there are.
    """

    def __init__(self, rank: int = 0, world: int = 1, patient: Any = None) -> None:
        self.rank = rank
        self.world = world
        self._patient = patient

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, index: Tensor) -> Tensor:
        """This process's positions of a batch.

        A process with fewer than two days gets others of the batch behind them, which do not count: batch norm needs two.
        """
        mine = index.tensor_split(self.world)[self.rank]
        missing = max(0, _LEAST - len(mine))
        return torch.cat([mine, index.repeat(missing)[:missing]]) if missing else mine

    def parts(self, days: int, wanted: int) -> list[tuple[slice, int, float]]:
        """How this process cuts its share of a batch.

        Args:
            days: of the whole batch.
            wanted: number of parts; fewer where a part would have less than two days.

        Returns:
            for each part its days in the share, how many of them count, and its weight: its portion of the days of all processes.
        """
        return list(_parts(days, wanted, self.rank, self.world))

    def any(self, flag: bool) -> bool:
        """True everywhere when it is true anywhere. All processes meet here, so the end of one is found here too."""
        if self.world == 1:
            return flag
        number = torch.tensor(int(flag))
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return bool(number)

    def total(self, value: Tensor) -> Tensor:
        """Sum over all processes; its gradient is that of the own part, so that the gradients of all processes still have to be added."""
        return value if self.world == 1 else _Total.apply(value)

    def add_gradients(self, parameters: Collection[nn.Parameter]) -> None:
        """Add the gradients of all processes, in a few large messages."""
        if self.world == 1:
            return
        gradients = [value.grad for value in parameters if value.grad is not None]
        sent = []
        for bucket in _buckets(gradients):
            flat = torch.cat([_flat(gradient) for gradient in bucket])
            sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in sent:
            work.wait()
            for gradient, part in zip(bucket, flat.split([gradient.numel() for gradient in bucket]), strict=True):
                _flat(gradient).copy_(part)

    def gather(self, value: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The small CPU tensors of all processes, on all of them; they have the same names and shapes everywhere."""
        if self.world == 1:
            return [value]
        found: list[dict[str, Tensor]] = [{} for _ in range(self.world)]
        for name, tensor in value.items():
            parts = [torch.empty_like(tensor) for _ in range(self.world)]
            dist.all_gather(parts, tensor)
            for one, part in zip(found, parts, strict=True):
                one[name] = part
        return found

    def wait(self) -> None:
        """Until all processes are here; the first one may take its time."""
        if self.world > 1:
            dist.barrier(group=self._patient)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the block alone, then the others do."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def seed(self, seed: int) -> None:
        """Random numbers of this process; those of the first one go on as they are when it is alone."""
        if not self.first:
            torch.manual_seed(seed + self.rank * _NEXT)


ALONE = Ranks()


class _Total(torch.autograd.Function):
    """The same sum, bit for bit, on all processes."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        whole = value.detach().clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


@contextmanager
def ranks_of(device: torch.device, stop: StopFlag) -> Iterator[Ranks]:
    """The processes that torchrun or srun started together with this one, connected; ALONE when there are no others.

    GPUs talk by NCCL, CPUs by gloo; flags and the end of a process always go by gloo, which sees at once that another one is gone.

    Raises:
        ConfigError: see hpc.ranks.place.
        Stopped: a signal came before all processes were there.
        DownscaleError: another process has ended, or did not answer in time.
    """
    here = place()
    if here.world == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(here.local % torch.cuda.device_count())
    if here.rank:
        for handler in logging.getLogger("downscale").handlers:
            handler.setLevel(max(handler.level, logging.WARNING))  # what all have to say, the first one says
    try:
        ranks = _connect(here, device, stop)
        log.info("process %d of %d (from 0), %s", here.rank, here.world, device.type)
        yield ranks
        ranks.wait()
    except (RuntimeError, dist.DistError) as error:
        if isinstance(error, DownscaleError) or not _of_connection(error):
            raise
        raise DownscaleError(
            "another process of this training has ended or does not answer",
            where=f"seen by process {here.rank} of {here.world} (from 0)",
            hint="look at what the others said; the same command goes on from the last checkpoint",
        ) from error
    dist.destroy_process_group()


def _connect(here: Place, device: torch.device, stop: StopFlag) -> Ranks:
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store = dist.PrefixStore("downscale", _meet(here, stop))
    dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.world, timeout=STEP_TIMEOUT)
    return Ranks(here.rank, here.world, dist.new_group(backend="gloo", timeout=_WAIT))


def _meet(here: Place, stop: StopFlag) -> dist.TCPStore:
    """What the processes find each other by, once all are there. One may have died before, so a signal is heard while they wait."""
    until = time.monotonic() + STEP_TIMEOUT.total_seconds()
    master = here.rank == 0 and not here.serving
    all_here = [f"here/{rank}" for rank in range(here.world)]
    store: dist.TCPStore | None = None
    while store is None or not store.check(all_here):
        if stop.set:
            raise Stopped(f"stopped by {stop.name} before the first step", hint="run the command again to go on")
        if time.monotonic() > until:
            raise RuntimeError("timed out: not all processes came")
        try:
            store = store or _served(here, master=master)
        except dist.DistNetworkError:
            if master:
                raise
        time.sleep(min(1.0, 0.05 * here.world))  # all of them ask the first one
    store.set_timeout(STEP_TIMEOUT)
    return store


def _served(here: Place, *, master: bool) -> dist.TCPStore:
    """The store of process 0, with this process in it; an error where it does not answer soon."""
    store = dist.TCPStore(here.host, here.port, here.world, is_master=master, timeout=_LOOK, wait_for_workers=False)
    store.set(f"here/{here.rank}", "")
    return store


def _of_connection(error: Exception) -> bool:
    """Whether an error comes from the connection to the other processes."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "nccl", "connection", "timed out", "process group"))


@functools.cache
def _parts(days: int, wanted: int, rank: int, world: int) -> tuple[tuple[slice, int, float], ...]:
    """See Ranks.parts; all processes come to the same number of parts and the same weights."""
    counting = [days // world + (number < days % world) for number in range(world)]
    held = [max(_LEAST, one) for one in counting]
    number = max(1, min(wanted, min(held) // _LEAST))
    spans = [[slice(size * k // number, size * (k + 1) // number) for k in range(number)] for size in held]
    counted = [[max(0, min(span.stop, real) - span.start) for span in some] for some, real in zip(spans, counting, strict=True)]
    weights = [sum(some[k] for some in counted) / days for k in range(number)]
    return tuple(zip(spans[rank], counted[rank], weights, strict=True))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in groups of at most _BUCKET numbers, or of one."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and sum(map(torch.numel, bucket)) + gradient.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _flat(gradient: Tensor) -> Tensor:
    """All numbers of a dense tensor in the order in which they lie in memory, sharing it."""
    return gradient.as_strided((gradient.numel(),), (1,))
