"""Computed blocks of an unfinished period, kept beside its files: who goes on writes them again, and computes only what is missing.

One file of records. A record is the lengths of its two parts and their CRC-32 (little-endian, 8, 8 and 4 bytes); safetensors of the days,
the numbers of each day and what had been counted up to there; then the fields as they lie in memory, float32. A record that a kill broke
off is cut off.
"""

from __future__ import annotations

import functools
import json
import logging
import math
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
from downscale.hpc.room import full_words
from downscale.training.moments import Sums

log = logging.getLogger(__name__)
_HEAD = struct.Struct("<QQI")
_SAID, _SERIES, _SUMS = "said", "series.", "sums"


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

    Attributes:
        given_up: whether nothing is kept any more.
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
        self.given_up = False
        self._stream: BinaryIO | None = None

    def read(self, days: np.ndarray) -> Iterator[Block]:
        """The blocks that are there, in order; what follows the last whole one is cut off.

        Args:
            days: (n,) yyyymmdd of the whole period.
        """
        if self.given_up:
            return
        try:
            self.path.touch()
            stream = self._stream = self.path.open("r+b")
        except OSError as error:
            self.give_up(str(error.strerror))
            return
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
        fields = [np.ascontiguousarray(one, np.float32) for one in block.fields]
        said = {"recipe": self._recipe, "missing": block.missing, "counts": block.counts, "shapes": [one.shape for one in fields]}
        tensors = {"days": block.days, _SAID: np.frombuffer(json.dumps(said).encode(), np.uint8)}
        tensors |= {f"{_SERIES}{name}": one for name, one in block.series.items()}
        tensors |= block.sums.tensors(_SUMS) if block.sums is not None else {}
        about = save({name: np.ascontiguousarray(one) for name, one in tensors.items()})
        checksum = functools.reduce(lambda known, one: zlib.crc32(one.data, known), fields, zlib.crc32(about))
        try:
            self._stream.write(_HEAD.pack(len(about), sum(one.nbytes for one in fields), checksum))
            self._stream.write(about)
            for one in fields:
                self._stream.write(one.data)
            self._stream.flush()
        except OSError as error:
            self.give_up(full_words(error) or str(error.strerror))

    def give_up(self, why: str) -> None:
        """Keep nothing from here on, and remove what was kept."""
        log.warning("%s: finished blocks cannot be kept (%s); killed now, this period begins anew", self.path.parent, why)
        self.given_up = True
        self.remove()

    def remove(self) -> None:
        """Remove the file."""
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
        about, size, checksum = _HEAD.unpack(head)
        if about + size > self.path.stat().st_size - stream.tell():
            return None
        parts = stream.read(about), stream.read(size)
        if zlib.crc32(parts[1], zlib.crc32(parts[0])) != checksum:
            return None
        try:
            return self._block(load(parts[0]), np.frombuffer(parts[1], np.float32))
        except (SafetensorError, ValueError, KeyError, TypeError):
            return None

    def _block(self, tensors: Mapping[str, np.ndarray], values: np.ndarray) -> Block | None:
        said = json.loads(tensors[_SAID].tobytes())
        if said["recipe"] != self._recipe:
            return None
        ends = np.cumsum([math.prod(shape) for shape in said["shapes"]])[:-1]
        fields = tuple(part.reshape(shape) for part, shape in zip(np.split(values, ends), said["shapes"], strict=True))
        series = {name.removeprefix(_SERIES): one for name, one in tensors.items() if name.startswith(_SERIES)}
        sums = Sums.from_tensors(tensors, _SUMS) if f"{_SUMS}.number" in tensors else None
        return Block(tensors["days"], fields, series, said["missing"], said["counts"], sums)
