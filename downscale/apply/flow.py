"""Reading ahead and writing behind: two threads around the computing, each with one block waiting at most.

Zarr is read without a lock. HDF5 is not made for several threads: whoever reads or writes NetCDF here holds ``HDF5`` meanwhile, so that
files are read between two blocks that are written, and both beside the computing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Any, TypeVar

HDF5 = threading.Lock()
_LOOK_SECONDS = 0.1
_Item = TypeVar("_Item")
_END = object()


def ahead(items: Iterable[_Item], waiting: int = 1) -> Generator[_Item]:
    """The same items, made in a thread of their own while the caller works on the one before; an error comes out where it belongs.

    Args:
        items: what is read, lazily.
        waiting: items that may lie ready.
    """
    queue: Queue[tuple[Any, BaseException | None]] = Queue(waiting)
    over = threading.Event()
    thread = threading.Thread(target=_fill, args=(queue, items, over), name="reader", daemon=True)
    thread.start()
    try:
        while (found := queue.get())[0] is not _END or found[1] is not None:
            item, error = found
            if error is not None:
                raise error
            yield item
    finally:
        over.set()
        thread.join()


def _fill(queue: Queue[tuple[Any, BaseException | None]], items: Iterable[Any], over: threading.Event) -> None:
    """Put items into a queue, then the end or an error, until nobody wants them any more."""

    def put(item: Any, error: BaseException | None = None) -> None:
        while not over.is_set():
            try:
                return queue.put((item, error), timeout=_LOOK_SECONDS)
            except Full:
                continue

    try:
        for item in items:
            put(item)
            if over.is_set():
                return
        put(_END)
    except BaseException as error:
        put(_END, error)


class Behind:
    """Calls a function in a thread of its own, in order; an error comes out at the next call, or at the end.

    Use it as a context manager: a normal exit waits until all is done, an exception drops what is waiting.
    """

    def __init__(self, work: Callable[..., None], waiting: int = 1) -> None:
        self._work = work
        self._queue: Queue[tuple[Any, ...] | None] = Queue(waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def __call__(self, *values: Any) -> None:
        """Hand something over; waits while too much is waiting already."""
        while True:
            self._tell()
            try:
                return self._queue.put(values, timeout=_LOOK_SECONDS)
            except Full:
                continue

    def __enter__(self) -> Behind:
        """The caller itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish after success, drop what is waiting after an exception."""
        if kind is not None:
            try:
                while True:
                    self._queue.get_nowait()
            except Empty:
                pass
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._tell()

    def _tell(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (values := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._work(*values)
                except BaseException as error:
                    self._error = error
