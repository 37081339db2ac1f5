"""How long a netCDF-3 file must be, by its own header.

The netCDF library reads a truncated classic file without complaint and returns garbage for what is missing (FAULTS F02), so the
length is computed from the header. Format: NetCDF Classic Format specification, versions CDF-1, CDF-2 and CDF-5 (Unidata).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from downscale.cf.header import OversizedError, check_size

MAGIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_TYPE_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_LONGEST_LIST = 1_000_000
_PADDING = 3


class _Reader:
    """Big-endian numbers one after the other; counts are 4 bytes, 8 in CDF-5."""

    def __init__(self, stream: BinaryIO, version: int) -> None:
        self.stream, self.version = stream, version

    def take(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) != count:
            raise EOFError
        return data

    def tag(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def count(self) -> int:
        return int(struct.unpack(">Q", self.take(8))[0]) if self.version == 5 else self.tag()

    def offset(self) -> int:
        return self.tag() if self.version == 1 else int(struct.unpack(">Q", self.take(8))[0])

    def skip(self, count: int) -> None:
        self.stream.seek(count + (-count) % 4, 1)

    def items(self) -> range:
        """A list's tag and length, ready to be walked."""
        self.tag()
        length = self.count()
        if length > _LONGEST_LIST:
            raise EOFError
        return range(length)

    def skip_attributes(self) -> None:
        for _ in self.items():
            self.skip(self.count())
            kind = self.tag()
            self.skip(_TYPE_SIZE[kind] * self.count())


def shortfall(path: Path) -> int:
    """Bytes missing at the end of a classic netCDF file; 0 when it is whole, -1 when the header itself is cut or damaged.

    Raises:
        OversizedError: the header declares more variables than any climate file has (X11).
    """
    with path.open("rb") as stream:
        version = stream.read(4)[3]
        try:
            expected = _expected_size(_Reader(stream, version))
        except OversizedError:
            raise
        except (EOFError, KeyError, IndexError, struct.error, OverflowError, OSError):
            return -1
    missing = expected - path.stat().st_size
    return missing if missing > _PADDING else 0


def _expected_size(reader: _Reader) -> int:
    records = reader.count()
    streaming = records == (0xFFFFFFFF if reader.version < 5 else 0xFFFFFFFFFFFFFFFF)
    lengths = []
    for _ in reader.items():
        reader.skip(reader.count())
        lengths.append(reader.count())
    reader.skip_attributes()
    fixed_end, record_begin, record_sizes = 0, None, []
    variables = reader.items()
    check_size({}, len(variables))
    for _ in variables:
        size, begin, is_record = _variable(reader, lengths)
        if is_record:
            record_begin = begin if record_begin is None else min(begin, record_begin)
            record_sizes.append(size)
        else:
            fixed_end = max(fixed_end, begin + size)
    end = max(fixed_end, reader.stream.tell())
    if record_begin is None or streaming:
        return end
    one = record_sizes[0] if len(record_sizes) == 1 else sum(size + (-size) % 4 for size in record_sizes)
    return max(end, record_begin + records * one)


def _variable(reader: _Reader, lengths: list[int]) -> tuple[int, int, bool]:
    """Bytes of a variable (of one record of it), where it begins, and whether it has records."""
    reader.skip(reader.count())
    dims = [reader.count() for _ in range(reader.count())]
    reader.skip_attributes()
    size = _TYPE_SIZE[reader.tag()]
    reader.count()
    begin = reader.offset()
    is_record = bool(dims) and lengths[dims[0]] == 0
    for dim in dims[1:] if is_record else dims:
        size *= lengths[dim]
    return size, begin, is_record
