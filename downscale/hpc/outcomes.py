"""How a job, or a task of an array, stands: from what it says of itself and what SLURM says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downscale.hpc.scripts import LOGS
from downscale.hpc.slurm import Standing

_ACTIVE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "STOPPED", "SIGNALING"}
_KILLED = {
    "TIMEOUT": "the time limit came before it could stop",
    "OUT_OF_MEMORY": "out of memory: raise hpc.jobs.{stage}.memory",
    "NODE_FAIL": "its node failed",
    "PREEMPTED": "another job took its place",
    "CANCELLED": "cancelled",
    "FAILED": "it ended before it could say why",
    "SIGKILL": "out of memory, or by hand: raise hpc.jobs.{stage}.memory",
}
_REASONS = {
    "BeginTime": "SLURM lets a job that went back to the queue wait, about two minutes",
    "Priority": "others come first",
    "Resources": "no node is free",
}
_LOG_BYTES = 20_000
_ERROR = re.compile(r"(?:\d+: )?error: (?!stopped by )(.+)|slurmstepd\S*: error: (execve.+)")
"""An error of ours in a log, where it may have the number of a rank before it, or SLURM's that a program is not there."""
SIGKILLED = 137
"""Exit code of a program that was killed by SIGKILL, which nobody can hear."""
Table = Mapping[str, Standing]


@dataclass(frozen=True)
class Entry:
    """A job of a chain as it was submitted.

    Attributes:
        key, stage: see scripts.Job.
        job: its number.
        after: keys of the jobs that it waits for.
        tasks: of an array; 0: no array.
    """

    key: str
    stage: str
    job: str
    after: list[str]
    tasks: int = 0


@dataclass(frozen=True)
class Task:
    """What is known of a job, or of a task of an array.

    Attributes:
        word: done, running, pending, failed, killed, stopped, "not run" or unknown.
        more: the rest of the sentence.
        active: whether SLURM still has it.
        number: of the job that stands for it now.
    """

    word: str
    more: str
    active: bool
    number: str


def number_of(entry: Entry, own: Mapping[str, Any]) -> str:
    """The job that stands for an entry now: the one that was submitted, or the one that goes on."""
    return str(own.get("next") or own.get("job") or entry.job)


def outcome(folder: Path, entry: Entry, number: int, own: Mapping[str, Any], table: Table | None, failed: Sequence[str]) -> Task:
    """How a job, or a task of an array, stands.

    Args:
        folder: of the chain.
        entry: the job.
        number: of the task.
        own: what it last said of itself; empty: nothing.
        table: what SLURM says; None: SLURM does not answer.
        failed: keys of the jobs that it waited for and that did not succeed.
    """
    job = number_of(entry, own)
    task = number if entry.tasks else None
    name = job if task is None else f"{job}_{task}"
    standing = _find(table or {}, job, task)
    if standing is not None and standing.state in _ACTIVE and own.get("state") != "done":
        return Task(*_alive(standing, own, entry), True, name)
    state = own.get("state")
    if state == "done":
        return Task("done", _span(own), False, name)
    if state == "failed":
        return Task(*_failed(folder, entry, task, own, standing), False, name)
    if state in ("stopped", "limit"):
        many = f" after continuing {own.get('restarts')} times" if state == "limit" else ""
        return Task("stopped", f"everything is saved{many}: submit again to go on", False, name)
    if not own and failed:
        return Task("not run", f"{', '.join(failed)} did not succeed", False, name)
    if table is None:
        word = {"running": "running", "requeued": "pending", "continued": "pending"}.get(str(state), "unknown")
        return Task(
            word,
            f"when it was last heard of{_where(own)}; SLURM does not answer here" if own else "SLURM does not answer here",
            False,
            name,
        )
    return Task(*_ended(standing, own, entry), False, name)


def _find(table: Table, job: str, task: int | None) -> Standing | None:
    """Of a job, or of a task of an array, which SLURM lists alone or with others in one line."""
    if task is None:
        return table.get(job)
    alone = table.get(f"{job}_{task}")
    return alone or next((one for name, one in table.items() if name.startswith(f"{job}_[") or name == job), None)


def _alive(standing: Standing, own: Mapping[str, Any], entry: Entry) -> tuple[str, str]:
    """Of a job that SLURM has."""
    times = int(own.get("restarts", 0)) + (own.get("state") in ("requeued", "continued"))
    again = f", continued {times} time{'s' * (times > 1)}" if times else ""
    if standing.state == "PENDING":
        waits = f"waits for {', '.join(entry.after) or standing.waits_for}" if standing.reason == "Dependency" else standing.reason
        return "pending", f"{_REASONS.get(waits, waits)}{again}"
    return "running", f"on {own.get('host') or standing.nodes}{again}" if standing.state == "RUNNING" else standing.state.lower()


def _ended(standing: Standing | None, own: Mapping[str, Any], entry: Entry) -> tuple[str, str]:
    """Of a job that SLURM has no more, and that has not said itself how it ended."""
    if standing is None and not own:
        return "unknown", "SLURM does not know it"
    if standing is None:
        return "killed", f"without a word{_where(own)}: time, memory or its node; see its log"
    if not own and standing.state == "CANCELLED":
        return "not run", "a job that it waited for did not succeed" if "ependency" in standing.reason else "cancelled"
    if standing.state == "COMPLETED":
        return "done", "SLURM says so; the job could not note it itself, was the disk full?"
    why = _KILLED.get(standing.state, standing.state.lower()).format(stage=entry.stage)
    return "killed", f"{why}{_where(own)}" + (f" ({standing.reason})" if standing.reason and standing.state == "FAILED" else "")


def _failed(folder: Path, entry: Entry, task: int | None, own: Mapping[str, Any], standing: Standing | None) -> tuple[str, str]:
    """Of a job whose command ended badly, by its own word; whether memory was short only SLURM knows, and not every one does."""
    why, log = _why(folder, entry, task)
    told = f"{_where(own)}{f': {why}' if why else ''}{f' ({log})' if log else ''}"
    sure = standing is not None and standing.state == "OUT_OF_MEMORY"
    if sure or (own.get("code") == SIGKILLED and not why):
        return "killed", f"{_KILLED['OUT_OF_MEMORY' if sure else 'SIGKILL'].format(stage=entry.stage)}{told}"
    return "failed", f"exit code {own.get('code')}{told}"


def _where(own: Mapping[str, Any]) -> str:
    return f" on {own['host']}" if own.get("host") else ""


def _span(own: Mapping[str, Any]) -> str:
    seconds = int(own.get("ended", 0)) - int(own.get("began", 0))
    took = f"{seconds} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{took}{_where(own)}" + (f", continued {own['restarts']} time{'s' * (own['restarts'] > 1)}" if own.get("restarts") else "")


def _why(folder: Path, entry: Entry, task: int | None) -> tuple[str, str]:
    """The last error in a job's log, and the log; the logs of its processes, and of Dask, are others."""
    own = re.compile(rf"{re.escape(f'{folder.name}-{entry.key}')}\.\d+{'' if task is None else f'_{task}'}\.log")
    logs = [path for path in (folder.parents[1] / LOGS).glob(f"{folder.name}-{entry.key}.*.log") if own.fullmatch(path.name)]
    for path in sorted(logs, key=lambda one: one.stat().st_mtime_ns, reverse=True)[:1]:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LOG_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
        errors = [match[1] or match[2] for line in lines if (match := _ERROR.match(line))]
        return errors[-1] if errors else "", str(path)
    return "", ""
