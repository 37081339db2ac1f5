"""Headers that were read before, kept on disk: one cache file for each folder of input files.

A header is taken from the cache only for a file of the same resolved path, size and time of change (in nanoseconds). Files that were
changed within the last seconds are not kept, since another change could leave the same time. Whatever is wrong with a cache file makes
it worthless, never the run: it is written anew, beside its place and then renamed, so that the last of several writers wins and no
reader sees half of one. There are no locks (they are slow or broken on shared file systems) and no code in the files.

Form of a cache file: a magic line, the sha256 of the rest, the length of a JSON text, the text, and the numbers of all axes one after
the other. Equal variables, attributes and axes are held once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downscale.cf.header import FileHeader, VariableHeader, moving
from downscale.config.folders import cache_folder

log = logging.getLogger(__name__)
_MAGIC = b"downscale headers 1\n"
_SUFFIX = ".headers"
_SETTLED_NS = 2 * 10**9
_MOST_BYTES = 2**30
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, OSError)
Entry = list[Any]
Structure = tuple[str, dict[str, VariableHeader], list[str], dict[str, Any]]


class HeaderCache:
    """Headers of earlier runs. Without a cache folder it holds nothing and keeps nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder
        self._shelves: dict[str, Shelf] = {}
        self._structures: dict[str, Structure] = {}
        self._new: dict[str, list[FileHeader]] = {}

    def get(self, path: Path, resolved: Path, stat: os.stat_result) -> FileHeader | None:
        """The header of a file as it is now, or None."""
        if self.folder is None:
            return None
        place, name = os.path.split(resolved)
        shelf = self._shelves.get(place)
        if shelf is None:
            shelf = self._shelves[place] = Shelf.load(self._file(place), self._structures)
        return shelf.get(name, path, resolved, stat)

    def put(self, header: FileHeader) -> None:
        """Keep a good header; it is on disk after save()."""
        if self.folder is not None and header.mtime_ns < time.time_ns() - _SETTLED_NS and keepable(header):
            self._new.setdefault(os.path.dirname(header.resolved), []).append(header)  # noqa: PTH120 - ten thousand times

    def save(self) -> None:
        """Write what is new. A cache that cannot be written is told to the log and otherwise passed over."""
        if self.folder is None or not self._new:
            return
        try:
            for place, headers in self._new.items():
                shelf = self._shelves.get(place) or Shelf.load(self._file(place))
                known = shelf.others(place) | {one.resolved.name: one for one in headers}
                _replace(self._file(place), seal(encode(known)))
            _shrink(self.folder)
        except OSError as error:
            log.info("headers are not kept for the next run: %s", error)
        self._new.clear()

    def _file(self, place: str) -> Path:
        assert self.folder is not None
        return self.folder / (hashlib.sha256(os.fsencode(place)).hexdigest()[:32] + _SUFFIX)


class Shelf:
    """Headers by a key: by file name in the cache file of a folder."""

    def __init__(self, data: bytes, known: dict[str, Structure] | None = None) -> None:
        self._known = {} if known is None else known
        (length,) = struct.unpack_from("<Q", data)
        text, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
        self._files: dict[str, Entry] = text["files"]
        self._attrs = [(name, _from_plain(value)) for name, value in text["attrs"]]
        self._arrays = [_array(numbers, *one) for one in text["arrays"]]
        self._structures = [self._structure(one) for one in text["structures"]]

    @classmethod
    def load(cls, file: Path, known: dict[str, Structure] | None = None) -> Shelf:
        """What a cache file holds; nothing where there is none or a damaged one."""
        try:
            data = file.read_bytes()
            begin = len(_MAGIC) + 32
            if data[: len(_MAGIC)] == _MAGIC and hashlib.sha256(memoryview(data)[begin:]).digest() == data[len(_MAGIC) : begin]:
                return cls(data[begin:], known)
            log.info("a damaged or older cache of headers is written anew: %s", file)
        except FileNotFoundError:
            pass
        except _DAMAGE:
            log.info("a cache of headers cannot be used: %s", file)
        return cls(encode({}))

    def header(self, key: str, path: Path, resolved: Path) -> FileHeader:
        """A header that is there, for the file where it was asked for."""
        return self._header(self._files[key], path, resolved)

    def get(self, name: str, path: Path, resolved: Path, stat: os.stat_result) -> FileHeader | None:
        """The header of a file of this size and time, or None."""
        entry = self._files.get(name)
        if entry is None or entry[0] != stat.st_size or entry[1] != stat.st_mtime_ns:
            return None
        try:
            return self._header(entry, path, resolved)
        except _DAMAGE:
            return None

    def others(self, place: str) -> dict[str, FileHeader]:
        """All headers of files that are still there, by name."""
        paths = {name: Path(place, name) for name in self._files}
        return {name: self.header(name, path, path) for name, path in paths.items() if os.path.lexists(path)}

    def _header(self, entry: Entry, path: Path, resolved: Path) -> FileHeader:
        size, mtime, number, fingerprint, attrs, own = entry
        digest, variables, names, fixed = self._structures[number]
        values = {name: self._arrays[own[name]] if name in own else fixed[name] for name in names}
        pairs = dict(self._attrs[index] for index in attrs)
        return FileHeader(path, resolved, size, mtime, variables, values, pairs, fingerprint, digest)

    def _structure(self, plain: Mapping[str, Any]) -> Structure:
        """Variables and fixed values; equal ones of several shelves are one."""
        digest = plain["digest"]
        if digest not in self._known:
            listing = ((name, tuple(dims), tuple(shape), dtype, attrs) for name, dims, shape, dtype, attrs in plain["variables"])
            variables = {one[0]: VariableHeader(*one[:4], {key: _from_plain(value) for key, value in one[4]}) for one in listing}
            fixed = {name: self._arrays[index] for name, index in plain["fixed"].items()}
            self._known[digest] = (digest, variables, plain["values"], fixed)
        return self._known[digest]


class _Table:
    """Things held once, by their number."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.things: list[Any] = []

    def __call__(self, key: Any, thing: Any) -> int:
        number = self.numbers.setdefault(key, len(self.things))
        if number == len(self.things):
            self.things.append(thing)
        return number


def encode(headers: Mapping[str, FileHeader]) -> bytes:
    """Headers as bytes that Shelf reads: the length of a JSON text, the text, the numbers of all axes."""
    attrs, arrays, structures = _Table(), _Table(), _Table()
    numbers: list[bytes] = []
    length = 0

    def array(values: NDArray[Any]) -> int:
        nonlocal length
        data = np.ascontiguousarray(values).tobytes()
        number = arrays((values.dtype.str, values.shape, data), [values.dtype.str, values.shape, length])
        if len(arrays.things) > len(numbers):
            numbers.append(data)
            length += len(data)
        return number

    files = {}
    for key, header in headers.items():
        own = moving(header.variables)
        if header.structure not in structures.numbers:
            structures(header.structure, _structure(header, own, array))
        pairs = [[name, _to_plain(value)] for name, value in header.attrs.items()]
        files[key] = [
            header.size,
            header.mtime_ns,
            structures.numbers[header.structure],
            header.fingerprint,
            [attrs(json.dumps(pair), pair) for pair in pairs],
            {name: array(values) for name, values in header.values.items() if name in own},
        ]
    content = {"files": files, "attrs": attrs.things, "arrays": arrays.things, "structures": structures.things}
    text = json.dumps(content, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(numbers)


def seal(data: bytes) -> bytes:
    """What stands in a cache file: a mark, and a checksum before the data."""
    return _MAGIC + hashlib.sha256(data).digest() + data


def keepable(header: FileHeader) -> bool:
    """Whether all attributes are texts or numbers, and not of a type that a user of NetCDF-4 made up."""
    tables = (header.attrs, *(variable.attrs for variable in header.variables.values()))
    return all(isinstance(one, str) or np.asarray(one).dtype.kind in "iufbU" for table in tables for one in table.values())


def _structure(header: FileHeader, own: set[str], array: Any) -> dict[str, Any]:
    listing = []
    for variable in header.variables.values():
        attrs = [[key, _to_plain(value)] for key, value in variable.attrs.items()]
        listing.append([variable.name, variable.dims, variable.shape, variable.dtype, attrs])
    fixed = {name: array(values) for name, values in header.values.items() if name not in own}
    return {"digest": header.structure, "variables": listing, "values": list(header.values), "fixed": fixed}


def _to_plain(value: Any) -> Any:
    """An attribute for JSON: texts and lists of texts as they are, numbers with their type, bit by bit."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return list(value)
    array = np.asarray(value)
    return {"type": array.dtype.str, "shape": array.shape, "bytes": array.tobytes().hex(), "scalar": isinstance(value, np.generic)}


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    array = np.frombuffer(bytes.fromhex(value["bytes"]), np.dtype(value["type"])).reshape(value["shape"])
    return array[()] if value["scalar"] else array


def _array(numbers: bytes, dtype: str, shape: list[int], begin: int) -> NDArray[Any]:
    return np.frombuffer(numbers, np.dtype(dtype), int(np.prod(shape)), begin).reshape(shape)


def _replace(file: Path, data: bytes) -> None:
    partial = file.with_name(f"{file.stem}.{os.getpid()}.{time.time_ns()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _shrink(folder: Path) -> None:
    """Remove the oldest cache files beyond the bound, and what dead writers left."""
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            stat = path.stat()
            if path.suffix == _SUFFIX:
                files.append((stat.st_mtime, stat.st_size, path))
            elif path.suffix == ".partial" and stat.st_mtime < time.time() - 3600:
                path.unlink()
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= _MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
