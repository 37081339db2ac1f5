"""The unit of work of prepare: one shard of a group is read, written, and recorded as done.

Beside the arrays of a half-written store lies a folder ``.work``: ``job-*.json`` says whose work it is, and ``GROUP/NUMBER.json`` is
written after shard NUMBER, with the sizes of its files and what was counted while reading. A shard without a record, or with files of
another size, is done again. The folder goes before the store is published.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from downscale.cf.open import Series
from downscale.pairs.coarse import read_days
from downscale.pairs.inputs import GroupInputs, Inputs
from downscale.pairs.missing import foretell
from downscale.pairs.tasks_memory import ReadPlan, shard_layout
from downscale.variables import Channel

WORK = ".work"
Counts = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class Shelf:
    """A group of the half-written store, its arrays opened once: opening one costs as much as writing a small shard.

    Attributes:
        folder: of the store.
        name: of the group.
        node: the group.
        arrays: name -> array over time, of those that are written by shards.
        shard_days: days of a shard.
    """

    folder: Path
    name: str
    node: Any
    arrays: dict[str, Any]
    shard_days: int

    @classmethod
    def of(cls, folder: Path, name: str, node: Any) -> Shelf:
        """The shelf of a group in the store."""
        attributes = dict(node.attrs)
        return cls(folder, name, node, {one: node[one] for one in sorted(attributes["sharded"])}, int(attributes["shard_days"]))

    def file(self, array: str, number: int) -> Path:
        """The file of a shard."""
        one = self.arrays[array]
        return self.folder / self.name / array / one.metadata.encode_chunk_key((number, *[0] * (one.ndim - 1)))

    def sizes(self, number: int) -> dict[str, int]:
        """Size of the file of a shard in each array; 0 where the shard is all missing and has no file."""
        files = {name: self.file(name, number) for name in self.arrays}
        return {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}


def windows(n_days: int, shard: int) -> list[slice]:
    """The days of each shard."""
    return [slice(start, min(start + shard, n_days)) for start in range(0, n_days, shard)]


@dataclass(frozen=True)
class ReadShard:
    """A shard in memory: its number, its days, its arrays by name, and what reading counted."""

    number: int
    days: int
    arrays: dict[str, np.ndarray]
    counts: Counts


def read_shard(shelf: Shelf, inputs: Inputs, group: GroupInputs, number: int, plan: ReadPlan) -> ReadShard:
    """Read one shard of all arrays of a group.

    Args:
        shelf: where the group's arrays are.
        inputs, group: opened files.
        number: of the shard.
        plan: how to read.

    Raises:
        InputDataError: the input is rejected.
    """
    window = windows(len(group.days), shelf.shard_days)[number]
    series = _every_series(group)
    before = {key: one.counts for key, one in series.items()}
    for (_, name), one in series.items():
        one.shared_notes, one.keep_open, one.keep_block = [], plan.keep_open, name in {target.name for target in inputs.targets}
    arrays = _fields(inputs, group, window, plan.days(group))
    return ReadShard(number, window.stop - window.start, arrays, _counted(series, before))


def store_shard(shelf: Shelf, shard: ReadShard) -> int:
    """Write and record a shard; its number of days.

    Raises:
        OSError: writing failed; no record is made.
    """
    start = shard.number * shelf.shard_days
    for name, values in shard.arrays.items():
        shelf.file(name, shard.number).unlink(missing_ok=True)
        shelf.arrays[name][start : start + shard.days] = values
    _record(shelf, shard.number, shard.counts)
    return shard.days


def _every_series(group: GroupInputs) -> dict[tuple[str, str], Series]:
    return {(source.name, name): one for source in group.sources for name, one in source.series.items()}


def _fields(inputs: Inputs, group: GroupInputs, window: slice, many: int) -> dict[str, np.ndarray]:
    """All arrays of a shard, read some days at a time, each field once."""
    n, coarse, fine = window.stop - window.start, inputs.geometry.coarse.shape, inputs.geometry.fine.shape
    arrays: dict[str, np.ndarray] = {}
    readers = {label: reader for label, reader in (("rcmu", group.rcm), ("gcm", group.gcm)) if reader is not None}
    for label in readers:
        arrays[f"predictors_{label}"] = np.empty((n, len(inputs.channels), *coarse), np.float32)
        arrays[f"surface_{label}"] = np.empty((n, len(inputs.targets), *coarse), np.float32)
    for target in inputs.targets if group.truth is not None else ():
        arrays[f"target_{target.name}"] = np.empty((n, *fine), np.float32)
    surface = [target for target in inputs.targets if target not in inputs.channels]
    places = [[*inputs.channels, *surface].index(target) for target in inputs.targets]
    for part in windows(n, many):
        days = group.days[window][part]
        for target in inputs.targets if group.truth is not None else ():
            arrays[f"target_{target.name}"][part] = _fine_fields(group, target, days, inputs)
        for label, reader in readers.items():
            maps = reader.read([*inputs.channels, *surface], days, coarse)
            arrays[f"predictors_{label}"][part] = maps[:, : len(inputs.channels)]
            arrays[f"surface_{label}"][part] = maps[:, places]
            foretell(maps[:, : len(inputs.channels)], days, inputs.channels, reader, group.missing)
        for one in _every_series(group).values():
            one.forget()
    return arrays


def _fine_fields(group: GroupInputs, target: Channel, days: np.ndarray, inputs: Inputs) -> np.ndarray:
    assert group.truth is not None
    fields = read_days(group.truth.series[target.name], days)
    return fields[:, inputs.geometry.window[0], inputs.geometry.window[1]]


# --- records -----------------------------------------------------------------------------------------------------------------


def _counted(series: dict[tuple[str, str], Series], before: dict[tuple[str, str], dict[str, int]]) -> Counts:
    """What reading this shard set right: source -> channel -> kind -> number."""
    found: Counts = {}
    for key, one in series.items():
        new = {what: count - before[key].get(what, 0) for what, count in one.counts.items()}
        if any(new.values()):
            found.setdefault(key[0], {})[key[1]] = {what: count for what, count in new.items() if count}
    return found


def _record(shelf: Shelf, number: int, counts: Counts) -> None:
    path = record_path(shelf.folder, shelf.name, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"bytes": shelf.sizes(number), "counts": counts})
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def record_path(folder: Path, group: str, number: int) -> Path:
    """Where the record of a shard stands."""
    return folder / WORK / group / f"{number:06d}.json"


def unfinished(shelf: Shelf, group: GroupInputs) -> list[int]:
    """Numbers of the shards that are still to be done."""
    return [number for number in range(len(windows(len(group.days), shelf.shard_days))) if not _is_done(shelf, number)]


def _is_done(shelf: Shelf, number: int) -> bool:
    try:
        record = json.loads(record_path(shelf.folder, shelf.name, number).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("bytes") == shelf.sizes(number)


def counted_notes(shelf: Shelf, group: GroupInputs) -> Iterator[tuple[str, str]]:
    """(source, note) for all that the shards counted: in the order of sources, channels and first occurrence, whoever did them."""
    total: Counts = {}
    for number in range(len(windows(len(group.days), shelf.shard_days))):
        for source, channels in json.loads(record_path(shelf.folder, shelf.name, number).read_text())["counts"].items():
            for channel, kinds in channels.items():
                sums = total.setdefault(source, {}).setdefault(channel, {})
                for what, count in kinds.items():
                    sums[what] = sums.get(what, 0) + count
    for (source, channel), one in _every_series(group).items():
        for what, count in total.get(source, {}).get(channel, {}).items():
            yield source, f"{one.label}: {count} {what}"


def unrecorded(folder: Path, inputs: Inputs, group: GroupInputs) -> int:
    """Number of shards of a group that no run has recorded, as the folder alone tells."""
    count = len(windows(len(group.days), shard_layout(inputs, group)[1]))
    return max(count - len(list((folder / WORK / group.name).glob("*.json"))), 0)


def tidy(folder: Path) -> None:
    """Remove torn files of a half-written store, and all of it where no shard was finished; else it stays, to go on from."""
    remove_torn_files(folder)
    if folder.is_dir() and not any(folder.glob(f"{WORK}/*/*.json")):
        shutil.rmtree(folder)


def clear_records(folder: Path, group: str) -> None:
    """Forget what was done of a group."""
    shutil.rmtree(folder / WORK / group, ignore_errors=True)


def remove_torn_files(folder: Path) -> None:
    """Remove what writers that were killed left behind: files that were never renamed into place."""
    for at, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".partial"):
                Path(at, name).unlink(missing_ok=True)
