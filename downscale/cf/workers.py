"""Headers read by several processes at once.

The processes are started afresh with netCDF4 and numpy only, are asked on their standard input and answer on their standard output, as
cf.cache writes headers: nothing of the caller's program is run again, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from downscale.cf.cache import Shelf, encode, keepable
from downscale.cf.header import FileHeader, Sharing
from downscale.cf.paths import Found
from downscale.cf.soundness import header_or_problem
from downscale.hpc.startup import afresh

Answers = Sequence[FileHeader | str]
_START = "from downscale.cf.workers import serve; serve()"
_CRASHED = "reading its header ended the process: damaged, or not enough memory"


def read_in_processes(batches: Sequence[Sequence[Found]], workers: int) -> Iterator[tuple[Sequence[Found], Answers]]:
    """Each batch of files with a header or a problem for each of its files, in the order in which they are done."""
    processes = [_Process() for _ in range(workers)]
    idle: SimpleQueue[_Process] = SimpleQueue()
    for process in processes:
        idle.put(process)

    def work(batch: Sequence[Found]) -> Answers:
        process = idle.get()
        try:
            return process.ask(batch)
        finally:
            idle.put(process)

    pool = ThreadPoolExecutor(workers)
    try:
        tasks = {pool.submit(work, batch): batch for batch in batches}
        for task in as_completed(tasks):
            yield tasks[task], task.result()
    finally:
        for process in processes:
            process.end()
        pool.shutdown(cancel_futures=True)
        for process in processes:
            process.stop()


class _Process:
    """A process that reads headers; started when it is first asked, and again when a file has ended it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._over = False

    def ask(self, batch: Sequence[Found]) -> Answers:
        answers = self._ask(batch)
        if answers is not None:
            return answers
        if self._over or len(batch) == 1:
            return [_CRASHED] * len(batch)
        return [answer for one in batch for answer in self.ask([one])]

    def _ask(self, batch: Sequence[Found]) -> Answers | None:
        """The answers; None when the process died over them."""
        if self._over:
            return None
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", afresh(_START)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps([[str(one.path), str(one.resolved)] for one in batch]).encode() + b"\n")
            self._child.stdin.flush()
            problems, shelf = json.loads(_receive(self._child.stdout)), Shelf(_receive(self._child.stdout))
        except (OSError, EOFError):
            self.stop()
            return None
        return [self._answer(problems[key], shelf, key, one) for key, one in zip(problems, batch, strict=True)]

    @staticmethod
    def _answer(problem: str | None, shelf: Shelf, key: str, one: Found) -> FileHeader | str:
        if problem is None:
            return shelf.header(key, one.path, one.resolved)
        return problem or header_or_problem(one.path, one.resolved)

    def stop(self) -> None:
        """End the process; the next question starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def end(self) -> None:
        """No more questions; a thread that waits for an answer is set free."""
        self._over = True
        child = self._child
        if child is not None:
            child.kill()


def serve() -> None:
    """Answer batches of paths until the input ends: a problem for each file (null: none, empty: ask elsewhere), and the headers."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        sharing = Sharing()
        headers: dict[str, FileHeader] = {}
        problems: dict[str, str | None] = {}
        for index, (path, resolved) in enumerate(json.loads(line)):
            answer = header_or_problem(Path(path), Path(resolved))
            problems[str(index)] = answer if isinstance(answer, str) else None if keepable(answer) else ""
            if problems[str(index)] is None and isinstance(answer, FileHeader):
                headers[str(index)] = sharing(answer)
        for data in (json.dumps(problems).encode(), encode(headers)):
            out.write(struct.pack("<Q", len(data)) + data)
        out.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """One length and so many bytes. Raises EOFError when the other side is gone."""
    start = stream.read(8)
    if len(start) < 8:
        raise EOFError
    (length,) = struct.unpack("<Q", start)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data
