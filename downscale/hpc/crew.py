"""Processes that share a list of work: each is started afresh, told in a line of JSON what was asked, and answers in lines of JSON.

A worker ends by itself, with everything finished kept, when its input is closed: when the command ends, however that happens.
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
from collections.abc import Callable, Mapping
from typing import Any

from downscale.errors import DownscaleError, Stopped
from downscale.hpc.startup import afresh

log = logging.getLogger(__name__)
GO = "go"


class Crew:
    """Worker processes, started at once, so that they load their libraries while the command looks at its own input.

    A context manager. At its end those at work are waited for, the others stopped; after an error all of them.

    Args:
        count: of processes; 0 is a crew without anybody.
        module: with a function ``serve`` that does the work, see Desk.
    """

    def __init__(self, count: int, module: str) -> None:
        self._workers = [_Worker(module) for _ in range(count)]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        for worker in self._workers:
            if kind is not None or not worker.at_work:
                worker.stop()
        for worker in self._workers:
            worker.end()

    def tell(self, order: Mapping[str, Any]) -> None:
        """What was asked, as JSON-like data; each gets its number besides, from 1."""
        for number, worker in enumerate(self._workers, start=1):
            worker.say({**order, "number": number})

    def go(self) -> None:
        """Let them begin: until then they only prepare."""
        for worker in self._workers:
            worker.say(GO)

    @property
    def size(self) -> int:
        """How many were started."""
        return len(self._workers)

    @property
    def done(self) -> int:
        """What they have done, all together, in their own measure."""
        return sum(worker.done for worker in self._workers)


class _Worker:
    def __init__(self, module: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", afresh(f"from {module} import serve; serve()")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self.done = 0
        self.at_work = False
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def say(self, what: Any) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # it is dead; others do its share
            self._child.stdin.write(json.dumps(what) + "\n")
            self._child.stdin.flush()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._child.send_signal(signal.SIGTERM)

    def end(self) -> None:
        assert self._child.stdin is not None
        self._child.wait()
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        self._ear.join()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for text in self._child.stdout:
            said = json.loads(text)
            if "done" in said:
                self.done, self.at_work = int(said["done"]), True
            else:
                log.log(*said["log"])


class Desk(logging.Handler):
    """The worker's side: what it was told, and what it says to the command, warnings of the log among it.

    Attributes:
        order: what was asked.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._out, self._alone = os.fdopen(os.dup(1), "w", buffering=1), threading.Lock()
        os.dup2(2, 1)
        self.order: dict[str, Any] = json.loads(sys.stdin.readline() or "{}")

    def work(self, prepare: Callable[[], Callable[[], object]]) -> None:
        """Prepare, wait for the command's word, then work.

        Args:
            prepare: returns the work. What it logs is not passed on: the command does the same and says it itself. An error of either ends
                this worker with a warning; what it left undone the command does, or fails at, itself.
        """
        root = logging.getLogger("downscale")
        root.addHandler(logging.NullHandler())
        root.propagate = False
        try:
            work = prepare()
            if sys.stdin.readline():
                threading.Thread(target=_leave_with_the_command, daemon=True).start()
                root.addHandler(self)
                self.tell({"done": 0})
                work()
        except Stopped:
            return
        except DownscaleError as error:
            self.tell({"log": [logging.WARNING, "%s", f"worker {self.order['number']} has ended: {error.message} ({error.where})"]})

    def tell(self, said: Mapping[str, Any]) -> None:
        """One line to the command."""
        with self._alone, contextlib.suppress(OSError):
            self._out.write(json.dumps(said) + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        """A warning of the log."""
        self.tell({"log": [record.levelno, "%s", record.getMessage()]})


def _leave_with_the_command() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
