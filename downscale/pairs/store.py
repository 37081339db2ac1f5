"""The pair store: one Zarr, a group for each source pair, published whole and verified on open."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from downscale.cf.calendar import decode_days, encode_days
from downscale.config.schema import SplitConfig
from downscale.errors import EnvironmentMissingError, InputDataError
from downscale.grid.grid import Grid
from downscale.hpc.paths import require_inside
from downscale.pairs.grids import read_grids, write_grids
from downscale.pairs.split import assign

SCHEMA_VERSION = 2
KINDS = ("perfect", "imperfect")
_ARRAY_OF = {"perfect": "rcmu", "imperfect": "gcm"}
TIME_UNITS = "days since 1850-01-01"
READ_DAYS = 256
_KEYS: Any = {"name": "default", "separator": "."}
"""Names of the files of an array: ``c.3.0.0`` beside each other, not a folder for each dimension, which would make three inodes of one."""
_CHUNK_BYTES = 2**21
_CHUNK_DAYS = 64
_SHARD_BYTES = 2**26
_SHARD_DAYS = 1024
"""Of arrays so small that their shards never reach the bytes: a file every three years or so."""
_SCALAR_DAYS = 4096
"""Days per chunk of the numbers of a day, which are one file."""


@dataclass
class PairGroup:
    """The pairs of one RCM run, or the predictors of a GCM that drives none.

    Attributes:
        name: of the rcm source (or of the lone gcm source).
        calendar, days: the exact common days, yyyymmdd, sorted.
        usable: (n,) False where a predictor is NaN and policy says drop.
        kinds: "perfect" where RCMu predictors exist, "imperfect" where GCM predictors exist.
        attributes: recipe, manifest of inputs, notes, digest.
    """

    name: str
    calendar: str
    days: np.ndarray
    usable: np.ndarray
    kinds: tuple[str, ...]
    targets: tuple[str, ...]
    attributes: dict[str, Any]
    node: Any = field(repr=False)
    splits: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def has_truth(self) -> bool:
        """Whether the group has fine targets."""
        return bool(self.targets) and f"target_{self.targets[0]}" in self.node

    @property
    def notes(self) -> list[str]:
        """What was converted, wrapped, cropped or assumed while building."""
        return list(self.attributes["notes"])

    def predictors(self, kind: str, index: slice | np.ndarray) -> np.ndarray:
        """Predictor maps (time, channel, y, x) float32, working units; kind "perfect" is RCMu, "imperfect" the GCM."""
        return self._read(f"predictors_{_ARRAY_OF[kind]}", index)

    def surface(self, kind: str, index: slice | np.ndarray) -> np.ndarray:
        """The coarse field of each target's own name (time, target, y, x) float32; NaN where the source has none."""
        return self._read(f"surface_{_ARRAY_OF[kind]}", index)

    def target(self, index: slice | np.ndarray) -> np.ndarray:
        """Fine truth (time, target, y, x) float32, working units; NaN where there is none (sea)."""
        return np.stack([self._read(f"target_{name}", index) for name in self.targets], axis=1)

    def target_rows(self, index: np.ndarray, rows: slice) -> np.ndarray:
        """Fine truth on some rows of the map (target, time, y, x) float32, read a few hundred days at a time."""
        first = self.target(index[:1])[:, :, rows]
        result = np.empty((first.shape[1], len(index), *first.shape[2:]), np.float32)
        for start in range(0, len(index), READ_DAYS):
            result[:, start : start + READ_DAYS] = np.moveaxis(self.target(index[start : start + READ_DAYS])[:, :, rows], 1, 0)
        return result

    def scalars(self, index: slice | np.ndarray) -> np.ndarray:
        """Numbers of the day (time, k) float32: season and forcings."""
        return self._read("scalars", index)

    def split(self, name: str) -> np.ndarray:
        """Sorted positions of "train", "validation" or "test" days."""
        return self.splits[name]

    def _read(self, name: str, index: slice | np.ndarray) -> np.ndarray:
        array = self.node[name]
        if isinstance(index, slice):
            return np.asarray(array[index])
        if not len(index):
            return np.empty((0, *array.shape[1:]), np.float32)
        first, last = int(index[0]), int(index[-1])
        if last - first + 1 <= 4 * len(index):
            return np.asarray(array[first : last + 1])[np.asarray(index) - first]
        return np.asarray(array.oindex[np.asarray(index)])


@dataclass
class PairStore:
    """All pairs of a workspace on one coarse and one fine grid."""

    path: Path
    groups: dict[str, PairGroup]
    coarse: Grid
    fine: Grid
    static: dict[str, np.ndarray]
    channels: list[str]
    targets: list[str]
    scalars: list[str]
    recipe: dict[str, Any]
    split_digest: str

    @classmethod
    def open(cls, path: Path, split: SplitConfig) -> PairStore:
        """Open and verify a store; ``split`` says which days train, validate and test.

        Raises:
            InputDataError: no store, or not whole (files missing or of another size).
            EnvironmentMissingError: written by a newer version.
        """
        attributes = read_attributes(path)
        root: Any = zarr.open_group(path, mode="r")
        targets = tuple(attributes["targets"])
        groups = {name: _open_group(root, path, name, targets, split) for name in attributes["groups"]}
        coarse, fine, static = read_grids(path, attributes["static"])
        return cls(
            path,
            groups,
            coarse,
            fine,
            static,
            list(attributes["channels"]),
            list(targets),
            list(attributes["scalars"]),
            attributes["recipe"],
            hashlib.sha256(split.model_dump_json().encode()).hexdigest(),
        )

    @property
    def digest(self) -> str:
        """sha256 over the recipes of the store and of all its groups."""
        parts = [json.dumps(self.recipe, sort_keys=True), *(group.attributes["digest"] for group in self.groups.values())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def group(self, name: str) -> PairGroup:
        """A group by name; InputDataError when the store has none of it."""
        if name not in self.groups:
            raise InputDataError(
                f"the pair store has no group '{name}'",
                where=f"{self.path}: {', '.join(self.groups)}",
                hint="add the source to the config and run downscale prepare again",
            )
        return self.groups[name]


def read_attributes(path: Path) -> dict[str, Any]:
    """Root attributes of a published store.

    Raises:
        InputDataError: there is no store, or it is not ours.
        EnvironmentMissingError: written by a newer version.
    """
    try:
        attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
    except (FileNotFoundError, KeyError, ValueError):
        raise InputDataError("there is no pair store here", where=str(path), hint="run downscale prepare CONFIG first") from None
    if "schema_version" not in attributes or "groups" not in attributes:
        raise InputDataError("this Zarr is not a pair store", where=str(path), hint="run downscale prepare CONFIG in another workspace")
    require_inside([*attributes["groups"], *attributes.get("targets", ()), *attributes.get("static", ())], path)
    if attributes["schema_version"] > SCHEMA_VERSION:
        raise EnvironmentMissingError(
            f"the pair store has format {attributes['schema_version']}, this version reads up to {SCHEMA_VERSION}",
            where=str(path),
            hint="update downscale-rcm, or prepare again in another workspace",
        )
    return attributes


def _open_group(root: Any, path: Path, name: str, targets: tuple[str, ...], split: SplitConfig) -> PairGroup:
    node = root[name]
    attributes = dict(node.attrs)
    found = inventory(path / name)
    if not attributes.get("complete") or found != attributes["inventory"]:
        raise InputDataError(
            f"the pair store is damaged: group '{name}' holds {found}, written were {attributes.get('inventory')}",
            where=str(path),
            hint="delete the store and run downscale prepare again",
        )
    time = node["time"]
    days = decode_days(np.asarray(time[:]), TIME_UNITS, attributes["calendar"])
    usable = np.asarray(node["usable"][:])
    kinds = tuple(kind for kind in KINDS if f"predictors_{_ARRAY_OF[kind]}" in node)
    group = PairGroup(name, attributes["calendar"], days, usable, kinds, targets, attributes, node)
    group.splits = assign(days, group.calendar, split, usable=usable)
    return group


def inventory(folder: Path) -> dict[str, int]:
    """Number and total size of the data files below a folder (metadata excluded: attributes are written last)."""
    sizes = [os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names if name != "zarr.json"]  # noqa: PTH118, PTH202
    return {"files": len(sizes), "bytes": int(sum(sizes))}


# --- writing ---------------------------------------------------------------------------------------------------------------


def create_root(path: Path, attributes: Mapping[str, Any], coarse: Grid, fine: Grid, static: Mapping[str, np.ndarray]) -> Any:
    """A new store with grids and fixed fields, and no groups yet; its attributes are written last, so that who has them has all of it."""
    root: Any = zarr.open_group(path, mode="w", zarr_format=3)
    write_grids(path, coarse, fine, static)
    root.attrs.update({"schema_version": SCHEMA_VERSION, "groups": [], "static": sorted(static), **attributes})
    return root


def create_group(root: Any, name: str, days: np.ndarray, calendar: str) -> Any:
    """A new, incomplete group with its time axis."""
    node = root.create_group(name, overwrite=True)
    along = {"shape": days.shape, "dimension_names": ("time",), "chunk_key_encoding": _KEYS}
    time = node.create_array("time", dtype="float64", **along)
    time.attrs.update({"units": TIME_UNITS, "calendar": calendar, "standard_name": "time"})
    time[:] = encode_days(days, calendar)
    usable = node.create_array("usable", dtype="bool", **along)
    usable[:] = True
    return node


def shard_days(cell_bytes: int) -> tuple[int, int]:
    """Days per chunk and per shard for arrays whose one day has ``cell_bytes`` bytes: about 2 MiB and 64 MiB, at most 64 and 1024 days."""
    chunk = int(np.clip(_CHUNK_BYTES // max(cell_bytes, 1), 1, _CHUNK_DAYS))
    return chunk, chunk * int(np.clip(_SHARD_BYTES // max(chunk * cell_bytes, 1), 1, max(_SHARD_DAYS // chunk, 1)))


def scalar_days(n_days: int) -> tuple[int, int]:
    """Days per chunk and per shard of the numbers of a day: all of them in one shard."""
    chunk = int(np.clip(n_days, 1, _SCALAR_DAYS))
    return chunk, chunk * -(-max(n_days, 1) // chunk)


def create_array(node: Any, name: str, shape: tuple[int, ...], *, days: tuple[int, int], attributes: Mapping[str, Any]) -> zarr.Array:
    """A sharded float32 array over time.

    Args:
        node: the group.
        name: of the array.
        shape: (time, ...).
        days: per chunk and per shard.
        attributes: units, channel names.
    """
    chunk, shard = days
    names = {4: ("time", "channel", "y", "x"), 3: ("time", "y", "x"), 2: ("time", "scalar")}[len(shape)]
    array = node.create_array(
        name,
        shape=shape,
        dtype="float32",
        chunks=(chunk, *shape[1:]),
        shards=(shard, *shape[1:]),
        fill_value=np.nan,
        dimension_names=names,
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        chunk_key_encoding=_KEYS,
        overwrite=True,
    )
    array.attrs.update(dict(attributes))
    return array
