"""The jobs of a workspace: what was submitted, how each of them stands, and ending them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from downscale.errors import EnvironmentMissingError
from downscale.hpc import slurm
from downscale.hpc.notes import read_note
from downscale.hpc.outcomes import SIGKILLED, Entry, Table, Task, number_of, outcome
from downscale.hpc.scripts import SLURM

_RECORD = "chain.json"


def next_number(workspace: Path) -> str:
    """The number that the next chain of a workspace gets."""
    taken = [int(path.name) for path in (workspace / SLURM).glob("[0-9]*") if path.name.isdigit()]
    return f"{max(taken, default=0) + 1:04d}"


def new_chain(folder: Path) -> None:
    """Make the folder of a chain; FileExistsError never passes: two commands at the same time get an error that says so."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise EnvironmentMissingError("another command submits jobs of this workspace", where=str(folder), hint="run again") from None


def write_chain(folder: Path, config: str, entries: Sequence[Entry]) -> None:
    """Record what was submitted so far."""
    path = folder / _RECORD
    path.with_suffix(".new").write_text(
        json.dumps({"config": config, "submitted": time.time(), "jobs": [asdict(entry) for entry in entries]}, indent=1)
    )
    path.with_suffix(".new").replace(path)


def unfinished(workspace: Path) -> list[str]:
    """Numbers of the workspace's jobs that SLURM still has, the last ones first.

    Raises:
        EnvironmentMissingError: SLURM does not say what is in its queue.
    """
    table = _queue(workspace)
    if table is None:
        raise EnvironmentMissingError(
            "SLURM does not say which jobs of this workspace it has: squeue fails, or takes too long",
            where=str(workspace / SLURM),
            hint="try again when squeue answers; nothing was submitted or cancelled",
        )
    chains = _chains(workspace, table, ask=False)
    return list(dict.fromkeys(task.number.partition("_")[0] for _, _, tasks in chains for task in tasks if task.active))


def job_lines(workspace: Path) -> list[str]:
    """A line for each job of the last chain, and for those of earlier chains that SLURM still has."""
    lines, last = [], None
    for folder, entry, tasks in _chains(workspace, _queue(workspace), ask=True):
        last = last or folder
        if folder == last or any(task.active for task in tasks):
            lines.append(f"{folder.name}/{entry.key} (job {entry.job}{f', {entry.tasks} tasks' if entry.tasks else ''}): {_told(tasks)}")
    return lines[::-1]


def cancel(workspace: Path) -> list[str]:
    """End all jobs of a workspace that are not finished; none of them goes on by itself.

    Raises:
        EnvironmentMissingError: there is no SLURM here, it does not answer, or it refuses.
    """
    slurm.require_slurm()
    waiting = unfinished(workspace)
    for folder in _folders(workspace) if waiting else ():
        (folder / "cancelled").touch()
    refused = slurm.scancel(waiting)
    if refused and not re.search("already|Invalid job id", refused):  # some may have ended by themselves meanwhile
        raise EnvironmentMissingError(
            f"SLURM does not end the jobs: {refused}", where=", ".join(waiting), hint="see squeue, or ask your centre"
        )
    return waiting


def _folders(workspace: Path) -> list[Path]:
    """Of chains, the last one first."""
    return sorted((path.parent for path in (workspace / SLURM).glob(f"[0-9]*/{_RECORD}")), reverse=True)


def _queue(workspace: Path) -> Table | None:
    """What SLURM says of the workspace's jobs; None: it does not answer."""
    return slurm.queue(workspace) if _folders(workspace) else {}


def _chains(workspace: Path, table: Table | None, *, ask: bool) -> Iterator[tuple[Path, Entry, list[Task]]]:
    """All jobs with their tasks, the last job of the last chain first.

    Args:
        workspace: of the experiment.
        table: see _queue().
        ask: what SLURM remembers of jobs that are not in the queue, for the last chain.
    """
    folders = _folders(workspace)
    for folder in folders:
        entries = _entries(folder)
        owns = {entry.key: _own(folder, entry) for entry in entries}
        known: Table | None = table
        if ask and folder == folders[0] and table is not None:
            numbers = {number for entry in entries for own in owns[entry.key] for number in _open_numbers(entry, own)}
            known = {**slurm.history((number for number in numbers if not _has(table, number)), workspace), **table}
        found: dict[str, list[Task]] = {}
        for entry in entries:
            failed = [key for key in entry.after if any(task.word not in ("done", "pending", "running") for task in found[key])]
            found[entry.key] = [outcome(folder, entry, number, own, known, failed) for number, own in enumerate(owns[entry.key])]
        for entry in reversed(entries):
            yield folder, entry, found[entry.key]


def _entries(folder: Path) -> list[Entry]:
    try:
        return [Entry(**one) for one in json.loads((folder / _RECORD).read_text())["jobs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _own(folder: Path, entry: Entry) -> list[dict[str, Any]]:
    """What a job, or each task of an array, last said of itself; empty where it has not begun."""
    names = [f"{entry.key}.{task}" for task in range(entry.tasks)] if entry.tasks else [entry.key]
    return [read_note(folder / f"{name}.json") for name in names]


def _open_numbers(entry: Entry, own: Mapping[str, Any]) -> list[str]:
    """Jobs whose end has to be asked for."""
    if own.get("state") in ("done", "failed", "stopped", "limit") and own.get("code") != SIGKILLED:
        return []
    return [number_of(entry, own)]


def _has(table: Table, number: str) -> bool:
    return any(name.partition("_")[0] == number for name in table)


def _told(tasks: Sequence[Task]) -> str:
    """One job in words; the tasks of an array by how they stand, with the first of those that did not succeed, if one failed that one."""
    if len({(task.word, task.more) for task in tasks}) == 1:
        many = f"{len(tasks)} " if len(tasks) > 1 else ""
        return f"{many}{tasks[0].word}{f': {tasks[0].more}' if tasks[0].more else ''}"
    counts = {word: sum(task.word == word for task in tasks) for word in dict.fromkeys(task.word for task in tasks)}
    bad = [task for task in tasks if task.word not in ("done", "pending", "running")]
    worst = [f"; {task.number}: {task.more}" for task in sorted(bad, key=lambda task: task.word not in ("failed", "killed"))]
    return ", ".join([f"{count} {word}" for word, count in counts.items()]) + "".join(worst[:1])
