"""Writes the virtual climate to a directory: whole files by worker processes, then truth.json."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from downscale.errors import ConfigError, DownscaleError, EnvironmentMissingError, InputDataError, OutputExistsError
from downscale.hpc.locks import folder_lock
from downscale.variables import UPPER_AIR, Channel
from downscale.virtual import truth
from downscale.virtual.clock import count_days, split_periods, split_years
from downscale.virtual.simulation import Chain
from downscale.virtual.storage import Storage
from downscale.virtual.tasks import Result, Task, run_task
from downscale.virtual.world import GCMS, LEVELS, Size, World, find_size

log = logging.getLogger(__name__)

YEARS_PER_FILE = 5
DEFAULT_YEARS = ((1995, 2000), (2090, 2095))
FORCING_YEARS = (1850, 2100)
SURFACE = ("tas", "tasmax", "pr", "psl")
CHANNELS = (*(f"{name}{level}" for name in UPPER_AIR for level in LEVELS), *SURFACE)
Progress = Callable[[int, int, str], None]


def write_sample_data(
    directory: Path,
    *,
    gcms: int = 2,
    years: Sequence[tuple[int, int]] = DEFAULT_YEARS,
    size: str | int | Size = "small",
    seed: int = 0,
    channels: Sequence[str] | None = None,
    packed: bool = False,
    workers: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes GCM and RCM files, forcing.csv and truth.json below a directory; the same numbers whatever the number of workers.

    Args:
        directory: created if need be; must be empty, or hold an interrupted set of sample data, or a finished one and overwrite given.
        gcms: 1 to 4, in the order of world.GCMS. years: spans of whole years, both ends included.
        size: a preset or an even number of coarse cells (world.find_size). seed: of everything random.
        channels: subset of CHANNELS; default all. packed: int16 files. workers: processes.
        progress: called with tasks done, tasks in all and the label of the task just finished.

    Returns:
        Summary: directory, files, bytes, days, seconds, irreducible (as in truth.json).

    Raises:
        ConfigError: an argument out of range. OutputExistsError: something else is there. EnvironmentMissingError: the disk is too small.
    """
    start, directory = time.monotonic(), Path(directory)
    chosen, world = _choose(channels, gcms, workers), World(seed=seed)
    found, periods = find_size(size), split_periods(years)
    recipe = truth.describe(world, found, gcms=gcms, periods=periods, channels=[c.name for c in chosen], packed=packed)
    chains = [Chain(world, found, index, period) for index in range(gcms) for period in periods]
    tasks = [task for chain in chains for task in _tasks(directory, chain, chosen, Storage(packed))]
    _refuse_foreign(directory, overwrite)
    _check_space(directory, tasks)
    with folder_lock(directory):
        _remove(directory, _listed(directory))
        recipe = _write(directory, recipe, tasks, lambda: _run(tasks, workers, progress))
    sizes = [entry["bytes"] for entry in recipe["files"]]
    days = sum(count_days(chain.period.first, chain.period.last, chain.gcm.calendar) for chain in chains)
    summary = {"directory": str(directory), "files": len(sizes), "bytes": sum(sizes), "days": days}
    return {**summary, "seconds": round(time.monotonic() - start, 2), "irreducible": recipe["irreducible"]}


def _write(directory: Path, recipe: dict[str, Any], tasks: Sequence[Task], run: Callable[[], list[Result]]) -> dict[str, Any]:
    """Runs the tasks and publishes truth.json last; when anything fails nothing stays. Returns the whole truth."""
    planned = ["forcing.csv", *(path for task in tasks for path in task.paths())]
    truth.save(directory, {**recipe, "files": [{"path": path} for path in planned]}, complete=False)
    try:
        results = run()
        forcing = truth.forcing_csv(*FORCING_YEARS)
        (directory / "forcing.csv").write_text(forcing, encoding="utf-8")
        sizes = {path: size for result in results for path, size in result.sizes.items()} | {"forcing.csv": len(forcing)}
        listed = [{"path": path, "bytes": sizes[path]} for path in sorted(sizes)]
        recipe = {**recipe, "irreducible": _irreducible(tasks, results), "files": listed}
        truth.save(directory, recipe, complete=True)
    except BaseException:
        _remove(directory, [*planned, truth.FILE])
        raise
    return recipe


def _choose(channels: Sequence[str] | None, gcms: int, workers: int) -> tuple[Channel, ...]:
    if not 1 <= gcms <= len(GCMS):
        raise ConfigError(f"{gcms} GCMs asked for", where="--gcms", hint=f"1 to {len(GCMS)}")
    if workers < 1:
        raise ConfigError(f"{workers} workers asked for", where="--workers", hint="at least 1")
    names = list(CHANNELS if channels is None else dict.fromkeys(channels))
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        what = ", ".join(unknown) or "files without variables"
        raise ConfigError(f"the virtual climate has no {what}", where="channels", hint=f"known: {', '.join(CHANNELS)}")
    return tuple(Channel.parse(name) for name in CHANNELS if name in names)


def _tasks(directory: Path, chain: Chain, channels: tuple[Channel, ...], storage: Storage) -> Iterator[Task]:
    """RCM tasks first: they are the long ones. Fixed fields go with the first years of each run."""
    for i, span in enumerate(split_years(chain.period, YEARS_PER_FILE)):
        yield Task(directory, chain, channels, storage, span, fixed=i == 0)
    yield Task(directory, chain, channels, storage, None)


def _refuse_foreign(directory: Path, overwrite: bool) -> None:
    """OutputExistsError unless the directory is free, holds an interrupted write of ours, or a finished one that may be overwritten."""
    if not directory.exists() or (directory.is_dir() and all(entry.name == ".lock" for entry in directory.iterdir())):
        return
    if not _listed(directory):
        hint = "choose another directory; --overwrite replaces sample data only"
        raise OutputExistsError("the directory holds something that sample-data did not write", where=str(directory), hint=hint)
    if (directory / truth.FILE).exists() and not overwrite:
        raise OutputExistsError("there are sample data already", where=str(directory), hint="choose another directory, or --overwrite")


def _listed(directory: Path) -> list[str]:
    """Files of an earlier write, finished or not, as its truth.json lists them; empty when there is none."""
    for name in (truth.FILE, truth.UNFINISHED):
        try:
            return [entry["path"] for entry in truth.read(directory / name)["files"]] + [truth.FILE]
        except InputDataError:
            continue
    return []


def _remove(directory: Path, paths: Sequence[str]) -> None:
    """Deletes files below the directory, their partial forms, and folders left empty."""
    root = directory.resolve()
    for path in paths:
        full = (root / path).resolve()
        if root in full.parents:
            full.unlink(missing_ok=True)
            full.with_name(full.name + ".partial").unlink(missing_ok=True)
    for folder in sorted({parent for path in paths for parent in (root / path).parents if root in parent.parents}, reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _check_space(directory: Path, tasks: Sequence[Task]) -> None:
    needed = 0.0
    for task in tasks:
        first, last = task.years or (task.chain.period.first, task.chain.period.last)
        cells = task.chain.gcm_grid.lon.size * task.chain.gcm_grid.lat.size if task.years is None else task.chain.size.rcm_cells**2
        needed += count_days(first, last, task.chain.gcm.calendar) * cells * len(task.channels) * task.storage.bytes_per_value()
    existing = next(folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    log.info("the sample data will take about %.2f GB in %d files", needed / 1e9, sum(len(task.paths()) for task in tasks))
    if needed > free:
        message = f"the sample data need about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise EnvironmentMissingError(message, where=str(directory), hint="fewer --years or --gcms, or another disk")


def _run(tasks: Sequence[Task], workers: int, progress: Progress | None) -> list[Result]:
    """Results in the order of the tasks."""
    if workers == 1:
        return [_report(progress, i + 1, tasks, task, run_task(task)) for i, task in enumerate(tasks)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_leave_interrupts_to_parent) as pool:
        futures = {pool.submit(run_task, task): task for task in tasks}
        done: dict[Task, Result] = {}
        try:
            for future in as_completed(futures):
                task = futures[future]
                done[task] = _report(progress, len(done) + 1, tasks, task, future.result())
        except BrokenProcessPool as error:
            raise DownscaleError("a worker process was killed, often for want of memory", hint="try --workers 1") from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [done[task] for task in tasks]


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _report(progress: Progress | None, count: int, tasks: Sequence[Task], task: Task, result: Result) -> Result:
    log.info("%d/%d %s written", count, len(tasks), task.label)
    if progress:
        progress(count, len(tasks), task.label)
    return result


def _irreducible(tasks: Sequence[Task], results: Sequence[Result]) -> dict[str, Any]:
    """Summaries by GCM, period label and target."""
    merged: dict[tuple[str, str, str], truth.Tally] = {}
    for task, result in zip(tasks, results, strict=True):
        for name, tally in result.tallies.items():
            key = (task.chain.gcm.name, task.chain.period.label, name)
            merged[key] = merged[key].merge(tally) if key in merged else tally
    nested: dict[str, Any] = {}
    for (gcm, label, name), tally in merged.items():
        nested.setdefault(gcm, {}).setdefault(label, {})[name] = tally.summary(name)
    return nested
