"""The one reading of the files of a pair: blocks of days are put aside for reading by rows, and handed to whoever wants whole fields."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from downscale.cf.calendar import iso
from downscale.errors import InputDataError
from downscale.evaluate.files.opened import FilePair
from downscale.evaluate.files.options import WHICH
from downscale.evaluate.files.remedies import telling
from downscale.evaluate.files.shelf import RowStore
from downscale.hpc.room import telling_full_disk

BLOCK_BYTES = 24 * 2**20
OnFields = Callable[[str, str, int, np.ndarray], None]
"""Takes variable, "truth" or "pred", the position of the first day, and fields (time, y, x)."""


@dataclass(eq=False)
class Spool:
    """All series of a pair by rows; a context manager.

    Attributes:
        stores: (variable, "truth" or "pred") -> its store.
        inside: (y, x) cells that count; others are NaN in what ``rows`` gives.
    """

    stores: dict[tuple[str, str], RowStore]
    inside: np.ndarray
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def make(cls, pair: FilePair, scratch: Path | None, inside: np.ndarray) -> Spool:
        """Empty stores: in memory, or below the folder ``scratch``."""
        shape = (len(pair.days), *pair.grid.shape)
        spool = cls({}, inside)
        try:
            for name in pair.variables:
                for which in WHICH:
                    path = None if scratch is None else scratch / f".{name}-{which}.rows"
                    spool.stores[name, which] = spool._stack.enter_context(RowStore(shape, path))
        except BaseException:
            spool.close()
            raise
        return spool

    def rows(self, variable: str, which: str, rows: slice) -> np.ndarray:
        """(time, cell) float32 of some rows, NaN outside the region."""
        block = self.stores[variable, which].read(rows)
        outside = ~self.inside[rows]
        if outside.any():
            block[:, outside] = np.nan
        return block.reshape(len(block), -1)

    def close(self) -> None:
        """Let go of memory and scratch files."""
        self._stack.close()

    def __getstate__(self) -> dict[str, object]:
        return {"stores": self.stores, "inside": self.inside, "_stack": ExitStack()}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_all(pair: FilePair, spool: Spool, on_fields: OnFields, tell: Callable[[int], None]) -> None:
    """Read every field once; while one block is read, another thread puts the one before aside and looks at it.

    Args:
        pair, spool: from where and whereto.
        on_fields: called in the order of days of each series.
        tell: called with the number of days that have been read.

    Raises:
        InputDataError: values that are implausible, or days of one of the two without any value.
    """
    n, cells = len(pair.days), pair.grid.shape[0] * pair.grid.shape[1]
    step = int(np.clip(BLOCK_BYTES // (cells * 4), 1, 512))
    empty: dict[str, list[int]] = {which: [] for which in WHICH}
    folder = next((store.path.parent for store in spool.stores.values() if store.path is not None), Path())

    def take(name: str, which: str, start: int, fields: np.ndarray) -> None:
        blank = ~np.isfinite(fields.reshape(len(fields), -1)).any(axis=1)
        empty[which] += pair.days[start : start + len(fields)][blank].tolist()
        spool.stores[name, which].write(start, fields)
        on_fields(name, which, start, fields)

    with telling_full_disk(folder, kept="nothing was kept; free some space or give -o on another disk"), ThreadPoolExecutor(1) as pool:
        waiting: Future[None] | None = None
        for start in range(0, n, step):
            for name in pair.variables:
                for which in WHICH:
                    with telling(WHICH[which]):
                        fields = pair.series(name, which).read(start, min(start + step, n))
                    if waiting is not None:
                        waiting.result()
                    waiting = pool.submit(take, name, which, start, fields)
            tell(min(start + step, n))
        if waiting is not None:
            waiting.result()
    for which, found in empty.items():
        if found:
            raise InputDataError(
                f"the {WHICH[which]} has no value at all on {len(set(found))} of the {n} days",
                where=f"first {iso(min(found))}, last {iso(max(found))}",
                hint="cut these days out of both, or out of one and give --common-days",
            )
