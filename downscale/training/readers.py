"""Processes that read days ahead of the training, and the memory that they share with it.

The processes are started afresh (nothing of the caller's program runs again, no thread or lock of it is copied), are asked with lines
of JSON on their standard input and answer with lines of JSON on their standard output; the numbers go through a shared block of memory.
They end when their standard input does, so none of them outlives the training.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from downscale.cf.calendar import decode_days
from downscale.errors import DownscaleError, InputDataError
from downscale.hpc.startup import afresh
from downscale.pairs.store import TIME_UNITS, PairGroup
from downscale.training.reading import Arrays, Holes, Portion, counted_days

FIRST_SECONDS, LATER_SECONDS = 120.0, 600.0
"""Longest wait for the first days of a process, which still has to start, and for later ones."""
_START = "import signal\nfor s in {signals}: signal.signal(s, signal.SIG_IGN)\nfrom downscale.training.readers import serve\nserve()"
_SIGNALS = [int(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Of one day's predictors, scalars and target."""


class Answer(NamedTuple):
    """What reading some days gave: how many days around them had to be replaced."""

    replaced: int


class Ring:
    """Days in memory that several processes share: a row for each day, in three arrays. The memory is gone with the last process."""

    def __init__(self, shapes: Shapes, file: int | None = None) -> None:
        """Over a file descriptor of another process, or a new block without a name."""
        self.shapes = shapes
        self.file = _anonymous() if file is None else file
        self.rows = 0
        self.arrays: Arrays = _views(bytearray(), shapes, 0)

    def resize(self, rows: int) -> None:
        """Make room for at least ``rows`` days; what the rows held before is lost."""
        size = max(4 * rows * sum(int(np.prod(shape)) for shape in self.shapes), 1)
        if os.fstat(self.file).st_size < size:
            os.ftruncate(self.file, size)
        self.arrays = _views(mmap.mmap(self.file, size), self.shapes, rows)
        self.rows = rows

    def put(self, slots: np.ndarray, days: Arrays) -> None:
        """Write days into rows."""
        for array, values in zip(self.arrays, days, strict=True):
            array[slots] = values


class Reader:
    """A process that reads days into a ring; see serve()."""

    def __init__(self, header: Mapping[str, Any], ring: Ring) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", afresh(_START.format(signals=_SIGNALS))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[ring.file],
            bufsize=0,
            start_new_session=True,
        )
        self._rest = b""
        self._patience = FIRST_SECONDS
        self.waiting = 0
        self._write({**header, "file": ring.file, "shapes": ring.shapes})

    @property
    def process(self) -> int:
        """Its id."""
        return self._child.pid

    def ask(self, request: Mapping[str, Any]) -> None:
        """Ask for days; answers come in the order of the requests."""
        self._write(request)
        self.waiting += 1

    def answer(self) -> Answer:
        """Wait for the days of the oldest request.

        Raises:
            InputDataError: the pairs hold NaN where the model cannot have it.
            DownscaleError: the process is gone, cannot read, or has not answered in time.
        """
        said = json.loads(self._line())
        self.waiting -= 1
        self._patience = LATER_SECONDS
        if "rejected" in said:
            message, where, hint, findings = said["rejected"]
            raise InputDataError(message, where=where, hint=hint, findings=findings)
        if "failed" in said:
            raise DownscaleError("the pairs cannot be read", where=said["failed"], hint="look at the disk; damaged pairs: prepare again")
        return Answer(int(said["replaced"]))

    def end(self) -> None:
        """End the process at once: it only reads."""
        self._child.kill()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()
        self._child.wait()

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(message).encode() + b"\n")
        except OSError:
            raise self._gone() from None

    def _line(self) -> bytes:
        assert self._child.stdout is not None
        until = time.monotonic() + self._patience
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                raise DownscaleError(
                    f"a process that reads the training days gave nothing for {self._patience:.0f} s",
                    where=f"process {self._child.pid}",
                    hint="is the disk of the pairs there? train.stream: never reads them without other processes, into memory",
                )
            part = os.read(self._child.stdout.fileno(), 65536)
            if not part:
                raise self._gone()
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _gone(self) -> DownscaleError:
        code = self._child.wait()
        return DownscaleError(
            "a process that reads the training days has ended",
            where=f"process {self._child.pid}, exit code {code}",
            hint="often for want of memory: lower train.buffer_days; the same command goes on from the last checkpoint",
        )


class HereReader:
    """Reads when it is asked to, in this process: for pairs in memory, and where there is no core for another process."""

    def __init__(self, portions: Sequence[Portion], holes: Holes, ring: Ring) -> None:
        self._portions, self._holes, self._ring = portions, holes, ring
        self._answers: list[Answer] = []

    @property
    def waiting(self) -> int:
        """Requests without an answer yet."""
        return len(self._answers)

    def ask(self, request: Mapping[str, Any]) -> None:
        """See Reader."""
        portion, index = self._portions[request["portion"]], np.asarray(request["index"])
        days, replaced = counted_days(portion, index, self._holes)
        self._ring.put(np.asarray(request["slots"]), days)
        self._answers.append(Answer(replaced))

    def answer(self) -> Answer:
        """See Reader."""
        return self._answers.pop(0)

    def end(self) -> None:
        """Nothing to do."""


def header(path: Path, portions: Sequence[Portion], holes: Holes) -> dict[str, Any]:
    """What a process has to know: the store, the pairs, what may be missing."""
    pairs = [[portion.group.name, portion.kind, portion.group.calendar, list(portion.group.targets)] for portion in portions]
    return {"store": str(path), "pairs": pairs, "holes": [list(holes.masked), list(holes.dropped), list(holes.days)]}


def serve(source: BinaryIO | None = None, sink: BinaryIO | None = None) -> None:
    """What a reading process does: the header, then a request a line until the input ends.

    A request names the pair, the positions of the days in its group, the rows of the ring, and the ring's number of rows.
    """
    source, sink = source or sys.stdin.buffer, sink or sys.stdout.buffer
    portions: list[Portion] | None = None
    said = json.loads(source.readline())
    ring = Ring(tuple(tuple(shape) for shape in said["shapes"]), said["file"])  # type: ignore[arg-type]
    holes = Holes(*(tuple(part) for part in said["holes"]))
    for line in source:
        try:
            portions = portions or _open(said)
            answer = _served(json.loads(line), portions, holes, ring)
        except InputDataError as error:
            answer = {"rejected": [error.message, error.where, error.hint, error.findings]}
        except Exception as error:
            answer = {"failed": f"{said['store']}: {type(error).__name__}: {error}"}
        sink.write(json.dumps(answer).encode() + b"\n")
        sink.flush()


def _served(request: dict[str, Any], portions: Sequence[Portion], holes: Holes, ring: Ring) -> dict[str, Any]:
    if ring.rows != request["rows"]:
        ring.resize(request["rows"])
    days, replaced = counted_days(portions[request["portion"]], np.asarray(request["index"]), holes)
    ring.put(np.asarray(request["slots"]), days)
    return {"replaced": replaced}


def _open(said: Mapping[str, Any]) -> list[Portion]:
    """The pairs, without the checks and the split that the training has made already."""
    import zarr

    zarr.config.set({"threading.max_workers": 1})
    root: Any = zarr.open_group(said["store"], mode="r")
    portions = []
    for name, kind, calendar, targets in said["pairs"]:
        node = root[name]
        days = decode_days(np.asarray(node["time"][:]), TIME_UNITS, calendar)
        group = PairGroup(name, calendar, days, np.ones(len(days), bool), (kind,), tuple(targets), {}, node)
        portions.append(Portion(group, kind, np.empty(0, np.int64)))
    return portions


def _views(memory: Any, shapes: Shapes, rows: int) -> Arrays:
    views, start = [], 0
    for shape in shapes:
        views.append(np.ndarray((rows, *shape), np.float32, memory, start) if rows else np.empty((0, *shape), np.float32))
        start += views[-1].nbytes
    return views[0], views[1], views[2]


def _anonymous() -> int:
    """File descriptor of a file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("days")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
