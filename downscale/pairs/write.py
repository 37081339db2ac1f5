"""Write the groups of a pair store, a shard of days at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from downscale.cf.open import Source
from downscale.config.load import digest
from downscale.errors import Stopped
from downscale.hpc.signals import StopFlag
from downscale.pairs import store as pair_store
from downscale.pairs.coarse import read_days
from downscale.pairs.geometry import Geometry
from downscale.pairs.inputs import GroupInputs, Inputs
from downscale.pairs.missing import foretell, judge
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)


def write_group(root: Any, folder: Path, inputs: Inputs, group: GroupInputs, stop: StopFlag) -> Iterator[int]:
    """Write the blocks of a group that are not there yet.

    Args:
        root: of the half-written store.
        folder: where that store is.
        inputs: all inputs of the experiment.
        group: the one to write.
        stop: looked at after every block.

    Yields:
        the number of days done at each step.

    Raises:
        Stopped: the flag is up; the blocks done are kept.
        InputDataError: a block of the input is rejected, or predictors lack what the policies do not allow; all such days are listed.
    """
    chunk, block = pair_store.shard_days(max(_array_bytes(inputs, group).values()))
    node = _resumable(root, group)
    if node is None:
        node = pair_store.create_group(root, group.name, group.days, group.calendar)
        _create_arrays(inputs, node, group, (chunk, block))
        node.attrs.update({"recipe": group.recipe, "calendar": group.calendar, "blocks_done": 0})
    if node.attrs.get("complete"):
        yield len(group.days)
        return
    finished = int(str(node.attrs["blocks_done"]))
    yield min(finished * block, len(group.days))
    for number in range(finished, -(-len(group.days) // block)):
        window = slice(number * block, min((number + 1) * block, len(group.days)))
        _write_block(inputs, node, group, window)
        node.attrs["blocks_done"] = number + 1
        yield window.stop - window.start
        if stop.set:
            raise Stopped(f"stopped by {stop.name}; what is done is kept", where=str(folder), hint="run the same command again to go on")
    judge(node, group, inputs.channels, block)
    _finish_group(folder, node, group)


def _resumable(root: Any, group: GroupInputs) -> Any:
    if group.name not in root:
        return None
    node = root[group.name]
    same = isinstance(node, zarr.Group) and node.attrs.get("recipe") == group.recipe and "blocks_done" in node.attrs
    return node if same else None


def _array_bytes(inputs: Inputs, group: GroupInputs) -> dict[str, int]:
    """Bytes of one day of each kind of array."""
    coarse, fine = int(np.prod(inputs.geometry.coarse.shape)), int(np.prod(inputs.geometry.fine.shape))
    sizes = {"predictors": 4 * coarse * len(inputs.channels)}
    return {**sizes, "target": 4 * fine} if group.truth else sizes


def day_bytes(inputs: Inputs, group: GroupInputs) -> int:
    """Bytes of one day of a group, all arrays, uncompressed."""
    sizes = _array_bytes(inputs, group)
    kinds = int(group.rcm is not None) + int(group.gcm is not None)
    return kinds * sizes["predictors"] + len(inputs.targets) * sizes.get("target", 0)


def _create_arrays(inputs: Inputs, node: Any, group: GroupInputs, days: tuple[int, int]) -> None:
    n, geometry = len(group.days), inputs.geometry
    channels, targets = [c.name for c in inputs.channels], [t.name for t in inputs.targets]
    for label, reader in (("rcmu", group.rcm), ("gcm", group.gcm)):
        if reader is not None:
            units = [lookup(c.variable).units for c in inputs.channels]
            pair_store.create_array(
                node,
                f"predictors_{label}",
                (n, len(channels), *geometry.coarse.shape),
                days=days,
                attributes={"channels": channels, "units": units},
            )
            pair_store.create_array(
                node,
                f"surface_{label}",
                (n, len(targets), *geometry.coarse.shape),
                days=days,
                attributes={"channels": targets, "units": [lookup(t).units for t in targets]},
            )
    if group.truth is not None:
        for target in targets:
            pair_store.create_array(
                node, f"target_{target}", (n, *geometry.fine.shape), days=days, attributes={"units": lookup(target).units}
            )
    scalars = inputs.forcings.names
    pair_store.create_array(node, "scalars", (n, len(scalars)), days=days, attributes={"names": scalars})
    node["scalars"][:] = inputs.forcings(group.days, group.calendar)


def _write_block(inputs: Inputs, node: Any, group: GroupInputs, window: slice) -> None:
    days, geometry = group.days[window], inputs.geometry
    for label, reader in (("rcmu", group.rcm), ("gcm", group.gcm)):
        if reader is None:
            continue
        maps = reader.read(inputs.channels, days, geometry.coarse.shape)
        foretell(maps, days, inputs.channels, reader, group.missing)
        node[f"predictors_{label}"][window] = maps
        node[f"surface_{label}"][window] = reader.read(inputs.targets, days, geometry.coarse.shape)
    if group.truth is not None:
        for target in inputs.targets:
            node[f"target_{target.name}"][window] = _fine_fields(group.truth, target, days, geometry)


def _fine_fields(source: Source, target: Channel, days: np.ndarray, geometry: Geometry) -> np.ndarray:
    fields = read_days(source.series[target.name], days)
    return fields[:, geometry.window[0], geometry.window[1]]


def _finish_group(folder: Path, node: Any, group: GroupInputs) -> None:
    node.attrs.update(
        {
            "files": [entry for source in group.sources for entry in source.files],
            "notes": [note for source in group.sources for note in source.notes],
            "digest": digest(group.recipe),
            "inventory": pair_store.inventory(folder / group.name),
            "complete": True,
        }
    )
