"""Several processes on one list of predictions: each is started afresh, told on its standard input what was asked, and claims work.

A worker answers in lines of JSON on its standard output: what it has done, what it warns of, and at last its error where there was one. It
ends by itself, with everything finished kept, when its input is closed: when the command ends, however that happens.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import downscale
from downscale import errors
from downscale.apply.files import FileOptions, file_jobs
from downscale.apply.jobs import config_jobs
from downscale.apply.share import ProgressCallback, line_of, run_jobs
from downscale.apply.tasks import Job
from downscale.config.schema import ApplyConfig, ExperimentConfig
from downscale.errors import DownscaleError, Stopped
from downscale.hpc.signals import StopFlag

log = logging.getLogger(__name__)
_START = "from downscale.apply.workers import serve; serve()"
_LOOK_SECONDS = 0.2


def run_in_workers(
    jobs: Sequence[Job], order: Mapping[str, Any], workers: int, *, overwrite: bool, force: bool, progress: ProgressCallback | None
) -> list[str]:
    """Start processes on the list and wait for them.

    Args:
        jobs: predictions, as the workers will find them by ``order``.
        order: what the command was asked, as JSON-like data.
        workers: how many processes; the cores are shared among them.
        overwrite: replace predictions of another recipe.
        force: take over locks of others first.
        progress: called with days done, all days, and what was done last.

    Returns:
        a line per prediction.

    Raises:
        DownscaleError: the first error of a worker; or workers ended without a word and left something undone.
        Stopped: a signal came; finished periods stay.
    """
    before = {job.folder for job in jobs if job.complete()}
    todo = [job for job in jobs if job.folder not in before]
    for job in todo:
        job.refuse_links()
        job.refuse_others(overwrite=overwrite)
        for part in job.parts if force else ():
            (job.folder / part.lock).unlink(missing_ok=True)
    total = sum(part.stop - part.start for job in todo for part in job.parts if not part.complete())
    if total:
        cores = max(1, len(os.sched_getaffinity(0)) // workers)
        told = {**order, "overwrite": overwrite, "threads": cores}
        with StopFlag() as stop:
            crew = [_Worker(told, number) for number in range(workers)]
            try:
                _watch(crew, stop, lambda: sum(one.done for one in crew), total, progress)
            finally:
                for one in crew:
                    one.end()
        if stop.set:
            raise Stopped(f"stopped by {stop.name}; what is finished is kept", hint="run the same command again to go on")
        _judge(crew, todo)
    for job in jobs:
        job.tidy()
    return [line_of(job, before) for job in jobs]


def _watch(crew: Sequence[_Worker], stop: StopFlag, done: Callable[[], int], total: int, progress: ProgressCallback | None) -> None:
    shown = -1
    while any(one.alive for one in crew):
        if stop.set:
            for one in crew:
                one.stop()
            return
        crew[0].wait(_LOOK_SECONDS)
        if progress is not None and done() != shown:
            shown = done()
            progress(min(shown, total), total, f"{sum(one.alive for one in crew)} workers")


def _judge(crew: Sequence[_Worker], todo: Sequence[Job]) -> None:
    """Raise what a worker could not do, unless all is done after all: another has taken it over."""
    if all(job.complete() or job.finish() for job in todo):
        return
    told = [one.error for one in crew if one.error is not None]
    if told:
        raise told[0]
    raise DownscaleError(
        "a worker process ended without a word, for want of memory perhaps",
        where=", ".join(str(job.folder) for job in todo if not job.complete()),
        hint="run the same command again, with fewer --workers; what is finished is kept",
    )


class _Worker:
    """A process that works on the list."""

    def __init__(self, order: Mapping[str, Any], number: int) -> None:
        root = str(Path(downscale.__file__).parents[1])
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {root!r})\n{_START}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self.done = 0
        self.error: DownscaleError | None = None
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.write(json.dumps({**order, "number": number}) + "\n")
            self._child.stdin.flush()
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def wait(self, seconds: float) -> None:
        self._ear.join(seconds)

    def stop(self) -> None:
        """Ask it to leave with everything finished kept."""
        with contextlib.suppress(OSError):
            self._child.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Close its input, which ends it, and wait."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        self._child.wait()
        self._ear.join()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for text in self._child.stdout:
            said = json.loads(text)
            if "done" in said:
                self.done = int(said["done"])
            elif "log" in said:
                log.log(*said["log"])
            elif said["error"]["code"] != Stopped.code:
                self.error = _error(said["error"])


def serve() -> None:
    """Work on a list as a worker."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_the_command, daemon=True).start()
    torch.set_num_threads(int(order["threads"]))
    say = _Speaker(out)
    try:
        jobs, block_days = _jobs(order)
        root = logging.getLogger("downscale")
        root.addHandler(say)
        root.propagate = False
        jobs = [*jobs[order["number"] % max(len(jobs), 1) :], *jobs[: order["number"] % max(len(jobs), 1)]]
        run_jobs(jobs, block_days=block_days, overwrite=order["overwrite"], progress=lambda done, total, name: say({"done": done}))
    except DownscaleError as error:
        facts = {name: getattr(error, name) for name in ("code", "message", "where", "hint", "findings")}
        say({"error": {"kind": type(error).__name__, **facts}})


def _jobs(order: Mapping[str, Any]) -> tuple[list[Job], int]:
    if "config" in order:
        cfg = ExperimentConfig.model_validate(order["config"])
        return config_jobs(cfg, order["runs"], order["sources"], order["device"]), cfg.apply.block_days
    paths = [Path(path) for path in order["inputs"]]
    options = FileOptions.of(order["options"])
    return file_jobs(Path(order["run"]), paths, Path(order["output"]), options, order["device"]), ApplyConfig().block_days


def _leave_with_the_command() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


class _Speaker(logging.Handler):
    """Lines of JSON to the command; warnings of the log among them."""

    def __init__(self, out: Any) -> None:
        super().__init__(logging.WARNING)
        self._out, self._alone = out, threading.Lock()

    def __call__(self, said: Mapping[str, Any]) -> None:
        with self._alone, contextlib.suppress(OSError):
            self._out.write(json.dumps(said) + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        self({"log": [record.levelno, "%s", record.getMessage()]})


def _error(said: Mapping[str, Any]) -> DownscaleError:
    kind = getattr(errors, str(said["kind"]), DownscaleError)
    return kind(said["message"], where=said["where"], hint=said["hint"], findings=said["findings"])
