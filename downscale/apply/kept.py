"""Computed blocks of an unfinished period, kept beside its files: who goes on writes them again, and computes only what is missing.

One file of records. A record is its length and its CRC-32 (little-endian, 8 and 4 bytes), then safetensors: the days, the fields, the
numbers of each day, and what had been counted up to there. A record that a kill broke off is cut off.
"""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from downscale.errors import DownscaleError
from downscale.hpc.paths import refuse_links
from downscale.training.moments import Sums

log = logging.getLogger(__name__)
_HEAD = struct.Struct("<QI")
_SAID, _FIELD, _SERIES, _SUMS = "said", "field.", "series.", "sums"


@dataclass(frozen=True)
class Block:
    """Some days as they are written.

    Attributes:
        days: (n,) yyyymmdd.
        fields: of each output, (n, V, Y, X), or (n, M, V, Y, X) with members, float32, working units; NaN on days that cannot be read.
        series: name -> (n,) numbers of the days.
        missing: days that cannot be read.
        counts, sums: what Novelty has counted, from the first day of the period to the last of the block.
    """

    days: np.ndarray
    fields: tuple[np.ndarray, ...]
    series: dict[str, np.ndarray]
    missing: list[int]
    counts: dict[str, float] = field(default_factory=dict)
    sums: Sums | None = None


class KeptBlocks:
    """The blocks of one period; a context manager.

    A normal exit removes the file, and so does an error that is told to the user. What ends the process otherwise, a kill or a signal,
    leaves it for the next one.
    """

    def __init__(self, path: Path, recipe: str) -> None:
        """Nothing is read or written yet.

        Args:
            path: of the file, in a folder that exists.
            recipe: digest of all that decides the numbers; blocks of another one are not used.

        Raises:
            OutputExistsError: the file is a symbolic link.
        """
        refuse_links(path)
        self.path, self._recipe = path, recipe
        self._stream: BinaryIO | None = None

    def read(self, days: np.ndarray) -> Iterator[Block]:
        """The blocks that are there, in order; what follows the last whole one is cut off.

        Args:
            days: (n,) yyyymmdd of the whole period.
        """
        self.path.touch()
        stream = self._stream = self.path.open("r+b")
        done = whole = 0
        while (block := self._next(stream)) is not None and np.array_equal(block.days, days[done : done + len(block.days)]):
            done, whole = done + len(block.days), stream.tell()
            yield block
        stream.seek(whole)
        stream.truncate()
        if done:
            log.info("%s: %d of %d days were computed before", self.path.parent, done, len(days))

    def add(self, block: Block) -> None:
        """Keep a block, after all were read. Where the disk has no room for it nothing is kept, and a warning says so."""
        if self._stream is None:
            return
        said = {"recipe": self._recipe, "missing": block.missing, "counts": block.counts}
        tensors = {"days": block.days, _SAID: np.frombuffer(json.dumps(said).encode(), np.uint8)}
        tensors |= {f"{_FIELD}{position}": one for position, one in enumerate(block.fields)}
        tensors |= {f"{_SERIES}{name}": one for name, one in block.series.items()}
        tensors |= block.sums.tensors(_SUMS) if block.sums is not None else {}
        data = save({name: np.ascontiguousarray(one) for name, one in tensors.items()})
        try:
            self._stream.write(_HEAD.pack(len(data), zlib.crc32(data)))
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            log.warning("%s: finished blocks cannot be kept (%s); killed now, this period begins anew", self.path.parent, error.strerror)
            self.remove()

    def remove(self) -> None:
        """Remove the file; nothing is kept from here on."""
        self._close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> KeptBlocks:
        """The blocks themselves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the file, or leave it to the next process."""
        if kind is None or issubclass(kind, DownscaleError):
            self.remove()
        self._close()

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):  # of a full disk, which was told already
                stream.close()

    def _next(self, stream: BinaryIO) -> Block | None:
        """The record at this place; None where there is no whole one of this recipe."""
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack(head)
        if length > self.path.stat().st_size - stream.tell():
            return None
        data = stream.read(length)
        if zlib.crc32(data) != checksum:
            return None
        try:
            return self._block(load(data))
        except (SafetensorError, ValueError, KeyError, TypeError):
            return None

    def _block(self, tensors: Mapping[str, np.ndarray]) -> Block | None:
        said = json.loads(tensors[_SAID].tobytes())
        if said["recipe"] != self._recipe:
            return None
        fields = tuple(tensors[f"{_FIELD}{position}"] for position in range(sum(name.startswith(_FIELD) for name in tensors)))
        series = {name.removeprefix(_SERIES): one for name, one in tensors.items() if name.startswith(_SERIES)}
        sums = Sums.from_tensors(tensors, _SUMS) if f"{_SUMS}.number" in tensors else None
        return Block(tensors["days"], fields, series, said["missing"], said["counts"], sums)
