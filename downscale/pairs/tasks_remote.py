"""A shard in another process: the worker opens the files itself, from the config that lies in the half-written store.

What goes through the scheduler is a path, a token and a number, and back comes a few lines of JSON-like data.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import zarr

from downscale import __version__
from downscale.config.schema import ExperimentConfig
from downscale.errors import DownscaleError, EnvironmentMissingError, InputDataError
from downscale.hpc.room import full_disk
from downscale.pairs.inputs import GroupInputs, Inputs, open_inputs
from downscale.pairs.tasks import WORK, Shelf, read_shard, store_shard
from downscale.pairs.tasks_memory import ReadPlan

KEPT = "what is done is kept: free some space and run the same command again"
ALL = "all"
"""Whose job it is where one command builds the whole store."""
_ONE_AT_A_TIME = threading.Lock()
"""One reader of NetCDF a process, however many threads a worker has: HDF5 is not made for more."""


@dataclass
class _Desk:
    """The opened inputs of one job; a worker has one at a time."""

    token: str
    inputs: Inputs
    groups: dict[str, GroupInputs]
    plan: ReadPlan
    shelves: dict[str, Shelf]


_desk: _Desk | None = None


def write_job(folder: Path, who: str, cfg: ExperimentConfig, inputs: Inputs, plan: ReadPlan) -> str:
    """Leave what workers need to know in the half-written store; takes the work over from whoever did it before.

    Args:
        folder: of the half-written store.
        who: ALL, or the key of a part.
        cfg, inputs, plan: what workers need to know.

    Returns:
        the token of the job.
    """
    token = f"{who}.{uuid4().hex}"
    job = {
        "token": token,
        "version": __version__,
        "config": json.loads(cfg.model_dump_json()),
        "recipe": inputs.recipe,
        "groups": {group.name: group.recipe for group in inputs.groups},
        "plan": asdict(plan),
    }
    path = _file(folder, "job", token)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob("job-*") if who == ALL else [_file(folder, "job", ALL)]:
        old.unlink(missing_ok=True)
    _file(folder, "stop", token).unlink(missing_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(job))
    temporary.replace(path)
    return token


def call_off(folder: Path, token: str) -> None:
    """Tell workers to leave the tasks that they have not begun."""
    _file(folder, "stop", token).touch()


def _file(folder: Path, what: str, token: str) -> Path:
    return folder / WORK / f"{what}-{token.partition('.')[0]}.json"


def run_shard(folder: str, token: str, group: str, number: int) -> dict[str, Any]:
    """Do one shard in a worker.

    Args:
        folder: of the half-written store, as the worker sees it.
        token: of the job; a worker that finds another one there leaves the store alone.
        group, number: which shard.

    Returns:
        ``group``, ``days`` done (0 when called off), ``seconds``, ``memory`` (highest bytes of the process), ``worker`` (host and process),
        ``log`` (level and text), and ``error`` where there was one: kind, message, where, hint, findings.
    """
    report: dict[str, Any] = {"group": group, "days": 0, "worker": f"{socket.gethostname()}/{os.getpid()}"}
    began = time.monotonic()
    with _ONE_AT_A_TIME, zarr.config.set({"threading.max_workers": 1}), _listening() as heard:
        try:
            report["days"] = _do(Path(folder), token, group, number, heard)
        except DownscaleError as error:
            report["error"] = _as_data(error)
        except OSError as error:
            told = full_disk(error, Path(folder), kept=KEPT)
            if told is None:
                raise
            report["error"] = _as_data(told)
    used = {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "seconds": time.monotonic() - began}
    return {**report, "log": heard, **used}


def error_of(data: dict[str, Any]) -> DownscaleError:
    """The error that a worker's report tells of."""
    kinds = {kind.__name__: kind for kind in (InputDataError, EnvironmentMissingError)}
    kind = kinds.get(data["kind"], DownscaleError)
    return kind(data["message"], where=data["where"], hint=data["hint"], findings=data["findings"])


def _as_data(error: DownscaleError) -> dict[str, Any]:
    return {"kind": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint, "findings": error.findings}


def _do(folder: Path, token: str, group: str, number: int, heard: list[tuple[int, str]]) -> int:
    job = _job(folder, token)
    if job.get("token") != token or _file(folder, "stop", token).exists():
        return 0
    desk = _sit_down(job)
    heard.clear()  # what is said while files are opened, the command has said itself
    if group not in desk.shelves:
        node = zarr.open_group(folder / group, mode="r+")
        if node.attrs.get("recipe") != desk.groups[group].recipe:
            return 0
        desk.shelves[group] = Shelf.of(folder, group, node)
    shelf = desk.shelves[group]
    return store_shard(shelf, read_shard(shelf, desk.inputs, desk.groups[group], number, desk.plan))


def _job(folder: Path, token: str) -> dict[str, Any]:
    """What the command has left; empty where another has taken its work over."""
    try:
        found: dict[str, Any] = json.loads(_file(folder, "job", token).read_text())
    except FileNotFoundError:
        if (folder / WORK).is_dir():
            return {}
        raise InputDataError(
            "a worker does not see the half-written store",
            where=f"{folder} on {socket.gethostname()}",
            hint="workers need the same folders under the same paths as the command",
        ) from None
    if found["version"] != __version__:
        raise EnvironmentMissingError(
            f"a worker has downscale {__version__}, the command {found['version']}",
            where=socket.gethostname(),
            hint="start the workers from the same environment",
        )
    return found


def _sit_down(job: dict[str, Any]) -> _Desk:
    """The job's inputs, opened by this process; those of another job are closed."""
    global _desk
    if _desk is not None and _desk.token == job["token"]:
        return _desk
    if _desk is not None:
        _desk.inputs.close()
        _desk = None
    inputs = open_inputs(ExperimentConfig.model_validate(job["config"]), workers=1)
    groups = {group.name: group for group in inputs.groups}
    if inputs.recipe != job["recipe"] or {name: group.recipe for name, group in groups.items()} != job["groups"]:
        raise InputDataError(
            "a worker sees other input files than the command did",
            where=socket.gethostname(),
            hint="let nothing write to the inputs, and see that all nodes have them under the same paths; then run the command again",
        )
    _desk = _Desk(job["token"], inputs, groups, ReadPlan(**job["plan"]), {})
    return _desk


@contextmanager
def _listening() -> Iterator[list[tuple[int, str]]]:
    """Collect what the package logs meanwhile, warnings and above: the command says it."""
    logger, heard = logging.getLogger("downscale"), _Ear()
    before = logger.propagate
    logger.addHandler(heard)
    logger.propagate = False
    try:
        yield heard.lines
    finally:
        logger.removeHandler(heard)
        logger.propagate = before


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))
