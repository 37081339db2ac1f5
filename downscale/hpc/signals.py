"""A stop flag for long stages: finish the step, save, leave with exit code 75."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """Context manager that turns the first SIGTERM, SIGINT or SIGUSR1 into a flag; a second one ends the process at once.

    Outside the main thread, where Python cannot install handlers, the flag simply never rises.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    @property
    def set(self) -> bool:
        """True once a signal has come."""
        return self.received is not None

    @property
    def name(self) -> str:
        """Name of the signal, or an empty string."""
        return self.received.name if self.received else ""

    def __enter__(self) -> StopFlag:
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
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number)
