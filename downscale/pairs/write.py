"""Write the groups of a pair store: a task a shard, in this process or in others."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from downscale.config.load import digest
from downscale.config.schema import ExperimentConfig
from downscale.errors import Stopped
from downscale.hpc.dask_worker import Hands
from downscale.hpc.doctor import memory
from downscale.hpc.signals import StopFlag
from downscale.pairs import store as pair_store
from downscale.pairs.inputs import GroupInputs, Inputs
from downscale.pairs.missing import judge
from downscale.pairs.parts import Part
from downscale.pairs.tasks import (
    ReadShard,
    Shelf,
    clear_records,
    counted_notes,
    read_shard,
    remove_torn_files,
    store_shard,
    unfinished,
    windows,
)
from downscale.pairs.tasks_memory import ReadPlan, input_bytes, plan_reading, shard_layout
from downscale.pairs.tasks_remote import ALL, call_off, error_of, run_shard, write_job
from downscale.variables import lookup

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
Reports = Iterator[dict[str, Any]]
Read = Callable[[str, int], ReadShard]
Write = Callable[[str, ReadShard], dict[str, Any]]
Do = Callable[[str, int], dict[str, Any]]
"""One shard in this process: group and number to a report; Read and Write are its halves."""
_WORTH_BYTES = 4_000_000_000
"""Decoded bytes of input from which starting processes pays by itself."""


@dataclass(frozen=True)
class Crew:
    """Who does the work.

    Attributes:
        workers: processes; 1 without a scheduler is this process.
        scheduler: address or file of a running Dask scheduler.
        plan: how each of them reads.
        need: bytes that each is expected to hold.
        hands: processes that were started early.
    """

    workers: int | None
    scheduler: str | None
    plan: ReadPlan
    need: int
    hands: Hands | None = None

    @property
    def alone(self) -> bool:
        """Whether this process does it all."""
        return self.scheduler is None and (self.workers or 1) == 1

    def describe(self) -> str:
        """Processes and memory in words, said before the work begins."""
        who = "this process" if self.alone else f"{self.workers or 'all'} workers of {self.scheduler}" if self.scheduler else (
            f"{self.workers} processes"
        )  # fmt: skip
        closed = "" if self.plan.keep_open else "; one file open at a time to save memory, which may read chunks again"
        return f"{who}, at most about {self.need / 1e9:.2f} GB each{closed}"


def early_hands(workers: int | None, scheduler: str | None) -> Hands | None:
    """Local processes, where it is known that they will be needed: this one is one of the workers."""
    return Hands(workers - 1, run_shard.__module__) if scheduler is None and workers is not None and workers > 1 else None


def gather_crew(inputs: Inputs, *, workers: int | None, scheduler: str | None, max_memory: int | None, hands: Hands | None = None) -> Crew:
    """Decide who works and how; None workers are this process for small inputs, else as many as usable cores and free memory allow.

    Raises:
        ConfigError: a shard does not fit ``max_memory``.
    """
    plan, need = plan_reading(inputs, max_memory)
    if workers is None and scheduler is None:
        big = sum(map(input_bytes, inputs.groups)) > _WORTH_BYTES
        workers = max(min(len(os.sched_getaffinity(0)), memory()[0] // need), 1) if big else 1
    return Crew(workers, scheduler, plan, need, hands)


def lay_out(root: Any, folder: Path, inputs: Inputs, groups: Sequence[GroupInputs]) -> dict[str, Shelf]:
    """The groups of a half-written store with all their arrays: what an earlier run left, or new."""
    return {group.name: Shelf.of(folder, group.name, _node(root, folder, inputs, group)) for group in groups}


def shards_of(part: Part, shelves: Mapping[str, Shelf], groups: Sequence[GroupInputs]) -> list[tuple[str, int]]:
    """The shards (group, number) of a part, by the bytes that reading them takes."""
    days = {group.name: windows(len(group.days), shelves[group.name].shard_days) for group in groups}
    each = {group.name: input_bytes(group) / max(len(group.days), 1) for group in groups}
    return part.own(
        [((name, number), each[name] * (one.stop - one.start)) for name, some in days.items() for number, one in enumerate(some)]
    )


def write_groups(
    shelves: Mapping[str, Shelf], folder: Path, cfg: ExperimentConfig, inputs: Inputs, groups: Sequence[GroupInputs], crew: Crew,
    progress: ProgressCallback | None, *, own: Collection[tuple[str, int]] | None = None, who: str = ALL,
) -> int:  # fmt: skip
    """Write the shards of some groups that are not there yet, judge each group when it is whole, and finish it.

    Args:
        shelves: from lay_out.
        folder: of the half-written store.
        cfg: the experiment, for workers to open the files.
        inputs: all inputs of the experiment.
        groups: those to write.
        crew: who does it.
        progress: called with (days done now, days to do now, group).
        own: only these shards, and no group is judged or finished; None: all.
        who: ALL, or the key of the part whose shards they are.

    Returns:
        the number of shards that were still to be done.

    Raises:
        Stopped: a signal came, or the job is about to end; the shards done are kept.
        InputDataError: a shard of the input is rejected, or predictors lack what the policies do not allow; all such days are listed.
        DownscaleError: a worker was killed, or the disk is full; the shards done are kept.
    """
    left = {group.name: unfinished(shelves[group.name], group) for group in groups if not shelves[group.name].node.attrs.get("complete")}
    if own is not None:
        left = {name: [number for number in numbers if (name, number) in own] for name, numbers in left.items()}
    tasks = [(name, number) for name, numbers in left.items() for number in numbers]
    token = write_job(folder, who, cfg, inputs, crew.plan)
    by_name = {group.name: group for group in groups}

    def finish(name: str) -> None:
        if own is None:
            _finish_group(shelves[name], by_name[name], inputs)

    for name in [name for name, numbers in left.items() if not numbers]:
        finish(name)
    with StopFlag.in_job() as stop, ExitStack() as stack:

        def read(name: str, number: int) -> ReadShard:
            return read_shard(shelves[name], inputs, by_name[name], number, crew.plan)

        def write(name: str, shard: ReadShard) -> dict[str, Any]:
            return {"group": name, "days": store_shard(shelves[name], shard)}

        def do(name: str, number: int) -> dict[str, Any]:
            began = time.monotonic()
            return {**write(name, read(name, number)), "seconds": time.monotonic() - began}

        reports = _alone(read, write, tasks, stop) if crew.alone or not tasks else _together(stack, folder, token, tasks, crew, stop, do)
        days = {name: _days_left(shelves[name], by_name[name], numbers) for name, numbers in left.items()}
        _follow(reports, days, progress, finish, stop)
        if any(days.values()):
            raise Stopped(f"stopped by {stop.name}; what is done is kept", where=str(folder), hint="run the same command again to go on")
    return len(tasks)


def _follow(
    reports: Reports, days: dict[str, int], progress: ProgressCallback | None, finish: Callable[[str], None], stop: StopFlag
) -> None:  # fmt: skip
    """Count down the days of each group as reports come in, pass on what workers say, and finish the groups."""
    total, said = sum(days.values()), set()
    memory: dict[str, int] = {}
    if progress and total:
        progress(0, total, next(name for name, count in days.items() if count))
    for report in reports:
        for level, text in report.get("log", ()):
            if text not in said:
                log.log(level, "%s", text)
                said.add(text)
        if "error" in report:
            raise error_of(report["error"])
        if "memory" in report:
            memory[report["worker"]] = max(report["memory"], memory.get(report["worker"], 0))
        stop.took(report.get("seconds", 0.0))
        name = report["group"]
        days[name] -= report["days"]
        if progress:
            progress(total - sum(days.values()), total, name)
        if report["days"] and not days[name]:
            finish(name)
    if memory:
        log.info("%d worker(s), at most %.2f GB each", len(memory), max(memory.values()) / 1e9)


def _alone(read: Read, write: Write, tasks: Sequence[tuple[str, int]], stop: StopFlag) -> Reports:
    """One shard after the other; each is written while the next is read."""
    with ThreadPoolExecutor(1) as writer:
        writing: Future[dict[str, Any]] | None = None
        for name, number in tasks:
            if stop.set:
                break
            shard = read(name, number)
            if writing is not None:
                yield writing.result()
            writing = writer.submit(write, name, shard)
        if writing is not None:
            yield writing.result()


def _together(
    stack: ExitStack, folder: Path, token: str, tasks: Sequence[tuple[str, int]], crew: Crew, stop: StopFlag, do: Do
) -> Reports:  # fmt: skip
    from downscale.hpc.dask_pool import Pool

    todo = [(str(folder), token, name, number) for name, number in tasks]
    own = None
    if crew.scheduler is not None:
        pool = Pool(scheduler=crew.scheduler, workers=crew.workers)
    else:
        hands = crew.hands or stack.enter_context(Hands(min(crew.workers or 1, len(tasks)) - 1, run_shard.__module__))
        pool, own = Pool(local=hands), lambda folder, token, name, number: do(name, number)
    stack.enter_context(pool)
    stack.callback(call_off, folder, token)

    def stopped() -> bool:
        if stop.set:
            call_off(folder, token)
        return stop.set

    return pool.run(run_shard, todo, stopped, own=own)


def _node(root: Any, folder: Path, inputs: Inputs, group: GroupInputs) -> Any:
    layout = shard_layout(inputs, group)
    if group.name in root:
        node = root[group.name]
        if isinstance(node, zarr.Group) and node.attrs.get("recipe") == group.recipe and node.attrs.get("shard_days") == layout[1]:
            return node
    clear_records(folder, group.name)
    node = pair_store.create_group(root, group.name, group.days, group.calendar)
    _create_arrays(inputs, node, group, layout)
    sharded = [name for name in node.array_keys() if name.startswith(("predictors_", "surface_", "target_"))]
    node.attrs.update({"calendar": group.calendar, "sharded": sorted(sharded), "shard_days": layout[1], "recipe": group.recipe})
    return node


def _days_left(shelf: Shelf, group: GroupInputs, numbers: Sequence[int]) -> int:
    return sum(min(shelf.shard_days, len(group.days) - number * shelf.shard_days) for number in numbers)


def _create_arrays(inputs: Inputs, node: Any, group: GroupInputs, days: tuple[int, int]) -> None:
    n, geometry = len(group.days), inputs.geometry
    channels, targets = [c.name for c in inputs.channels], [t.name for t in inputs.targets]
    for label, reader in (("rcmu", group.rcm), ("gcm", group.gcm)):
        for kind, names in (("predictors", channels), ("surface", targets)) if reader is not None else ():
            units = [lookup(c.variable).units for c in (inputs.channels if kind == "predictors" else inputs.targets)]
            shape = (n, len(names), *geometry.coarse.shape)
            pair_store.create_array(node, f"{kind}_{label}", shape, days=days, attributes={"channels": names, "units": units})
    for target in targets if group.truth is not None else ():
        units_of = {"units": lookup(target).units}
        pair_store.create_array(node, f"target_{target}", (n, *geometry.fine.shape), days=days, attributes=units_of)
    scalars = inputs.forcings.names
    pair_store.create_array(node, "scalars", (n, len(scalars)), days=pair_store.scalar_days(n), attributes={"names": scalars})
    node["scalars"][:] = inputs.forcings(group.days, group.calendar)


def _finish_group(shelf: Shelf, group: GroupInputs, inputs: Inputs) -> None:
    """Judge what the whole group lacks, and write its manifest, notes and inventory; the last write makes it complete."""
    opening = {source.name: list(source.notes) for source in group.sources}
    for name, note in counted_notes(shelf, group):
        opening[name].append(note)
    for source in group.sources:
        source.notes[:] = opening[source.name]
    judge(shelf.node, group, inputs.channels, shelf.shard_days)
    remove_torn_files(shelf.folder / group.name)
    shelf.node.attrs.update(
        {
            "files": [{"source": source.name, **entry} for source in group.sources for entry in source.listed],
            "notes": [note for source in group.sources for note in source.notes],
            "models": group.models,
            "digest": digest(group.recipe),
            "inventory": pair_store.inventory(shelf.folder / group.name),
            "complete": True,
        }
    )
