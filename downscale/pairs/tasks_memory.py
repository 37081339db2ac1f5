"""What a worker of prepare holds in memory, said before it starts, and how it reads where that is too much."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import netCDF4
import numpy as np

from downscale.cf.chunks import cache_bytes
from downscale.cf.open import Series
from downscale.errors import ConfigError
from downscale.pairs import store as pair_store
from downscale.pairs.inputs import GroupInputs, Inputs
from downscale.pairs.winds import held_blocks

BASE_BYTES = 350_000_000
"""A process with its libraries, the headers of some hundred files and the weights of an EUR-11 grid."""
_READ_BYTES, _READ_DAYS = 2**29, 128
"""Decoded input that a shard is read from, a second or two of work; but always these days, where the arrays' bytes allow them."""
_FEWEST_DAYS = 10
"""Days read at a time at least: rain that was never differenced shows over seven days (FAULTS T13)."""


@dataclass(frozen=True)
class ReadPlan:
    """How a shard's fields are read.

    Attributes:
        block_bytes: of the fields of one channel that are read at a time.
        keep_open: whether all files stay open with their chunk caches, or one at a time.
    """

    block_bytes: int = 2**25
    keep_open: bool = True

    def days(self, group: GroupInputs) -> int:
        """Days of a group read at a time."""
        return max(self.block_bytes // max(_plane_bytes(group), 1), _FEWEST_DAYS)


PLANS = (ReadPlan(), ReadPlan(keep_open=False), ReadPlan(2**22, keep_open=False))
"""The fastest first."""


def plan_reading(inputs: Inputs, limit: int | None) -> tuple[ReadPlan, int]:
    """The fastest way of reading that stays within a limit, and the bytes a worker needs then.

    Args:
        inputs: all groups.
        limit: bytes a worker may hold; None: any.

    Raises:
        ConfigError: a single shard does not fit.
    """
    caches = {
        group.name: [_cache_bytes(series) for source in group.sources for series in source.series.values()] for group in inputs.groups
    }
    for plan in PLANS:
        needs = {group.name: BASE_BYTES + _group_bytes(inputs, group, plan, caches[group.name]) for group in inputs.groups}
        need = max(needs.values())
        if limit is None or need <= limit:
            return plan, need
    assert limit is not None
    largest = max(needs, key=lambda name: needs[name])
    raise ConfigError(
        f"--max-memory: {limit / 1e9:.2f} GB a worker cannot hold one shard, {need / 1e9:.2f} GB can",
        where=f"group {largest}: {shard_layout(inputs, _named(inputs, largest))[1]} days a shard",
        hint=f"give --max-memory {need / 1e9 + 0.005:.2f}GB or more, or a smaller domain.fine_box",
    )


def array_bytes(inputs: Inputs, group: GroupInputs) -> dict[str, int]:
    """Bytes of one day of each kind of array."""
    coarse, fine = int(np.prod(inputs.geometry.coarse.shape)), int(np.prod(inputs.geometry.fine.shape))
    sizes = {"predictors": 4 * coarse * len(inputs.channels)}
    return {**sizes, "target": 4 * fine} if group.truth else sizes


def day_bytes(inputs: Inputs, group: GroupInputs) -> int:
    """Bytes of one day of a group, all arrays, uncompressed."""
    sizes = array_bytes(inputs, group)
    return _kinds(group) * sizes["predictors"] + len(inputs.targets) * sizes.get("target", 0)


def input_bytes(group: GroupInputs) -> int:
    """Bytes of all fields that a group reads, decoded."""
    planes = sum(_one_plane(series) for source in group.sources for series in source.series.values())
    return planes * len(group.days)


def shard_layout(inputs: Inputs, group: GroupInputs) -> tuple[int, int]:
    """Days per chunk and per shard of a group's arrays.

    A shard is also what a kill loses and what workers share: where there is much to read for small arrays, it has fewer days.
    """
    chunk, shard = pair_store.shard_days(max(array_bytes(inputs, group).values()))
    most = max(_READ_BYTES // max(input_bytes(group) // max(len(group.days), 1), 1), _READ_DAYS)
    return chunk, min(shard, chunk * max(most // chunk, 1))


def _kinds(group: GroupInputs) -> int:
    return int(group.rcm is not None) + int(group.gcm is not None)


def _named(inputs: Inputs, name: str) -> GroupInputs:
    return next(group for group in inputs.groups if group.name == name)


def _group_bytes(inputs: Inputs, group: GroupInputs, plan: ReadPlan, caches: list[int]) -> int:
    """Two shards, the one that is read and the one that is written, and an array encoded; the block in work with its product, and the
    blocks that are kept."""
    shard = min(shard_layout(inputs, group)[1], len(group.days))
    sizes = array_bytes(inputs, group)
    surface = sizes["predictors"] // len(inputs.channels) * len(inputs.targets)
    held = shard * (2 * (day_bytes(inputs, group) + _kinds(group) * surface) + max(sizes.values()))
    waiting = len(inputs.targets) + sum(map(held_blocks, group.sources))
    blocks = min(plan.days(group), shard) * _plane_bytes(group) * (4 + waiting)
    return held + blocks + (sum(caches) if plan.keep_open else max(caches, default=0))


def _plane_bytes(group: GroupInputs) -> int:
    """Bytes of the largest field of a group's sources, float32."""
    return max(_one_plane(series) for source in group.sources for series in source.series.values())


def _one_plane(series: Series) -> int:
    cells = [series.coordinates.sizes[dim] for dim in series.coordinates.sizes if dim not in ("bnds", "vertices")]
    return 4 * math.prod(cells)


def _caches(group: GroupInputs) -> list[int]:
    return [_cache_bytes(series) for source in group.sources for series in source.series.values()]


def _cache_bytes(series: Series) -> int:
    """Chunk cache of an open file of a series."""
    piece = series.pieces[0]
    with contextlib.suppress(OSError, RuntimeError, IndexError, KeyError), netCDF4.Dataset(piece.header.path) as dataset:
        return cache_bytes(dataset[piece.variable.name])
    return 0
