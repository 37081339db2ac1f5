"""Fields put aside in blocks of map rows, so that whole time series of some rows can be read without reading whole files again.

What fits stays in memory; the rest goes to a scratch file beside the results, which other processes can read, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np

ROWS_BYTES = 2**20
"""Bytes of a block of rows in about a hundred days: large enough to be written in one go."""


class RowStore:
    """One series (time, y, x) float32, written in blocks of days and read by rows; a context manager.

    Args:
        shape: (time, y, x).
        path: of the scratch file, which goes at the end; None: in memory.
    """

    def __init__(self, shape: tuple[int, int, int], path: Path | None = None) -> None:
        self.shape, self.path = shape, path
        self.height = int(np.clip(ROWS_BYTES // (100 * shape[2] * 4), 1, shape[1]))
        self._memory = None if path is not None else np.empty((self._blocks, shape[0], self.height, shape[2]), np.float32)
        self._file: int | None = None
        self._owner = os.getpid()
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.ftruncate(self._file, self._blocks * self._block_bytes)

    @property
    def _blocks(self) -> int:
        return -(-self.shape[1] // self.height)

    @property
    def _block_bytes(self) -> int:
        return self.shape[0] * self.height * self.shape[2] * 4

    def write(self, start: int, fields: np.ndarray) -> None:
        """Put days from position ``start`` on, (time, y, x)."""
        for number in range(self._blocks):
            part = np.ascontiguousarray(fields[:, number * self.height : (number + 1) * self.height], dtype=np.float32)
            if self._memory is not None:
                self._memory[number, start : start + len(part), : part.shape[1]] = part
            elif part.shape[1] == self.height:
                self._put(part, number, start)
            else:
                padded = np.zeros((len(part), self.height, self.shape[2]), np.float32)
                padded[:, : part.shape[1]] = part
                self._put(padded, number, start)

    def read(self, rows: slice = slice(None), days: slice = slice(None)) -> np.ndarray:
        """(time, y, x) float32 of some rows and days."""
        top, bottom, _ = rows.indices(self.shape[1])
        first, last, _ = days.indices(self.shape[0])
        result = np.empty((max(last - first, 0), max(bottom - top, 0), self.shape[2]), np.float32)
        for number in range(top // self.height, -(-bottom // self.height)) if result.size else ():
            low, high = max(top, number * self.height), min(bottom, (number + 1) * self.height)
            block = self._block(number, first, last)
            result[:, low - top : high - top] = block[:, low - number * self.height : high - number * self.height]
        return result

    def _block(self, number: int, first: int, last: int) -> np.ndarray:
        if self._memory is not None:
            return self._memory[number, first:last]
        block = np.empty((last - first, self.height, self.shape[2]), np.float32)
        self._get(block, number, first)
        return block

    def _put(self, part: np.ndarray, number: int, start: int) -> None:
        view, place = part.reshape(-1).view(np.uint8).data, self._place(number, start)
        while len(view):
            done = os.pwrite(self._descriptor(), view, place)
            view, place = view[done:], place + done

    def _get(self, block: np.ndarray, number: int, start: int) -> None:
        view, place = block.reshape(-1).view(np.uint8).data, self._place(number, start)
        while len(view):
            done = os.preadv(self._descriptor(), [view], place)
            if not done:
                raise OSError(f"{self.path} ended early")
            view, place = view[done:], place + done

    def _place(self, number: int, start: int) -> int:
        return number * self._block_bytes + start * self.height * self.shape[2] * 4

    def _descriptor(self) -> int:
        if self._file is None:
            assert self.path is not None
            self._file = os.open(self.path, os.O_RDONLY)
        return self._file

    def close(self) -> None:
        """Let go of the memory or the file; the process that made the file removes it."""
        self._memory = None
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self.path is not None and self._owner == os.getpid():
            self.path.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, object]:
        """For other processes: only what lies in a file can be sent."""
        if self.path is None:
            raise TypeError("a store in memory stays in its process")
        return {**self.__dict__, "_file": None, "_owner": -1}

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_owner", None) == -1 and self._file is not None:
            os.close(self._file)
