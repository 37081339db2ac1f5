"""Signals that end a command: within a step a flag that is looked at after it, elsewhere an exception that clears up on its way out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from downscale.errors import Stopped
from downscale.hpc.startup import is_own, settle
from downscale.hpc.walltime import job_end, seconds_left

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
MARGIN_SECONDS = 60.0
"""Time kept free before the end of a job where nobody says otherwise."""
_ECHO_SECONDS = 3.0
"""SLURM tells a process to end twice, by its daemon and through srun: what comes within this time says the same."""
_heard = (0, 0.0)
"""The last signal that was none of these, and when."""


class Interrupted(BaseException):
    """A signal came where no step had to be finished first.

    Like KeyboardInterrupt no Exception, so that nobody takes it for a failure of what was just being done.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name

    def told(self) -> Stopped:
        """The error to show."""
        return Stopped(f"stopped by {self.name}; what was finished is kept", hint="run the same command again to go on")


class Heard:
    """What an interruptible block has heard; a StopFlag that begins after it is set from the start.

    Libraries that call back into Python swallow the exception of a signal that comes meanwhile, or turn it into one of their own. So
    whoever ends the command looks here, too.

    Attributes:
        number: the signal that raised Interrupted.
        flagged: the signal that a StopFlag was told, perhaps after its last step.
    """

    number: int | None = None
    flagged: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Of the signals."""
        if _is_echo(number):
            return
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
        raise Interrupted(number)


_listening: list[Heard] = []
"""The interruptible blocks that this process is in."""


@contextmanager
def interruptible() -> Iterator[Heard]:
    """Inside, and outside every StopFlag, the first SIGTERM, SIGINT or SIGUSR1 raises Interrupted, so that locks and half-written
    folders go; a second one ends the process at once.

    Without this a signal that comes while libraries are loaded or files are opened would end the process on the spot, as if it had failed.
    """
    previous: dict[signal.Signals, object] = {}
    heard = Heard()
    _listening.append(heard)
    try:
        for number in _SIGNALS:
            previous[number] = signal.signal(number, heard.handle)
    except ValueError:  # not the main thread
        previous.clear()
    try:
        yield heard
    finally:
        _listening.remove(heard)
        if previous and is_own():
            settle()  # the second signal of two must not end the command before it has said why it stopped
            previous.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _is_echo(number: int) -> bool:
    """Whether a signal says again what the one before said: in a SLURM job, shortly after it, and nobody's Ctrl-C.

    A worker hears SLURM's USR1 and then its command's TERM.
    """
    global _heard
    now = time.monotonic()
    if _heard[0] and signal.SIGINT not in (number, _heard[0]) and now - _heard[1] < _ECHO_SECONDS and "SLURM_JOB_ID" in os.environ:
        return True
    _heard = number, now
    return False


class StopFlag:
    """Context manager that turns the first SIGTERM, SIGINT or SIGUSR1 into a flag; a second one ends the process at once.

    With ``end`` it also rises before the job ends: when less than ``margin`` and the longest time that has passed between two looks at
    the flag is left. So whoever looks after each step, and saves in between, is never cut off in a step.

    Outside the main thread, where Python cannot install handlers, signals are not seen.

    Args:
        end: seconds since 1970 at which the job ends, see walltime.job_end(); None: not known.
        margin: seconds to keep free before that, for what comes after the flag.
    """

    def __init__(self, *, end: float | None = None, margin: float = 0.0) -> None:
        self.received: signal.Signals | None = None
        self.end = end
        self.margin = margin
        self._late = False
        self._looked: float | None = None
        self._longest = 0.0
        self._previous: dict[signal.Signals, object] = {}

    @classmethod
    def in_job(cls, margin: float = MARGIN_SECONDS) -> StopFlag:
        """A flag that knows when the job ends that this process runs in, if it runs in one."""
        return cls(end=job_end(), margin=margin)

    def took(self, seconds: float) -> None:
        """Say how long a step took that ran beside the looking, in another process."""
        self._longest = max(self._longest, seconds)

    def begin(self) -> None:
        """Forget how long steps took: those that follow are of another kind."""
        self._longest, self._looked = 0.0, None

    @property
    def set(self) -> bool:
        """True once a signal has come or the job is about to end."""
        if self.end is not None and not self._late:
            now = time.monotonic()
            if self._looked is not None:
                self._longest = max(self._longest, now - self._looked)
            self._looked = now
            self._late = seconds_left(self.end) < self.margin + self._longest
        return self.received is not None or self._late

    @property
    def name(self) -> str:
        """Name of the signal, "the end of the job" when that is near, or an empty string."""
        if self.received is not None:
            return self.received.name
        return "the end of the job" if self._late else ""

    def __enter__(self) -> StopFlag:
        before = [number for heard in _listening for number in (heard.number, heard.flagged) if number is not None]
        self.received = signal.Signals(before[0]) if before else None
        try:
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:
            self._previous.clear()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if _is_echo(number):
            return
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number)
        for heard in _listening:
            heard.flagged = number
