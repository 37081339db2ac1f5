"""What a list of predictions takes on disk and in memory, said before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from downscale.apply.predict import batch_size, block_size
from downscale.apply.tasks import Job, Part
from downscale.errors import DownscaleError
from downscale.hpc.doctor import memory_limit, resident
from downscale.hpc.locks import holder
from downscale.hpc.room import USUAL, free_space, require_space
from downscale.models.inputs import Inputs
from downscale.training.reading import Holes

_FLOAT_BITS, _MANTISSA_BITS = 32, 23
_BLOCKS, _FEATURES = 4, 3
"""Blocks of fields, and feature maps of the largest kind, that are in memory at once."""


def require_room(jobs: Sequence[Job], block_days: int, processes: int) -> None:
    """Refuse a list that cannot fit on the disk, or into the memory that the job or container has.

    Args:
        jobs: predictions; what is done, or in another's work, is not counted.
        block_days: see emulate_blocks.
        processes: that share the memory.

    Raises:
        DiskFullError: with the need and the free space.
        DownscaleError: with the need and the limit of memory.
    """
    left = [part for job in jobs for part in job.parts if not part.complete() and not holder(job.folder / part.lock)]
    if not left:
        return
    files = sum(len(part.job.run.targets) * _outputs(part.job) for part in left)
    require_space(left[0].job.folder, sum(output_bytes(part) for part in left), files)
    _require_memory([job for job in jobs if any(part.job is job for part in left)], block_days, processes)


def blocks_fit(part: Part) -> bool:
    """Whether the disk has room for a period's output, as large as is usual, and for its computed blocks beside it."""
    kept = part.blocks.stat().st_size if part.blocks.exists() else 0
    return free_space(part.job.folder) + kept > USUAL * output_bytes(part) + _field_bytes(part)


def output_bytes(part: Part) -> int:
    """Bytes of a period's fields in its files before compression; bits that are rounded away are not counted."""
    bits = part.job.layout.significant_bits
    return _field_bytes(part) * (_FLOAT_BITS if bits is None else bits + _FLOAT_BITS - _MANTISSA_BITS) // _FLOAT_BITS


def _field_bytes(part: Part) -> int:
    cells = part.job.run.fine.shape[0] * part.job.run.fine.shape[1]
    return 4 * (part.stop - part.start) * len(part.job.run.targets) * cells * _outputs(part.job)


def _outputs(job: Job) -> int:
    """Fields of a day and variable: members, or their mean and spread."""
    members = job.members
    return 1 if members is None else members.number if members.config.write == "members" else 2


def _require_memory(jobs: Sequence[Job], block_days: int, processes: int) -> None:
    limit = memory_limit()
    if limit is None:
        return
    most = max((_block_bytes(job, block_days) + _feature_bytes(job) for job in jobs), default=0)
    need = processes * (resident() + most)
    if need > limit:
        each = f"{processes} processes of {need / processes / 1e9:.1f} GB" if processes > 1 else f"{need / 1e9:.1f} GB"
        raise DownscaleError(
            f"too little memory: {each} needed, {limit / 1e9:.1f} GB may be used",
            where="limit of this job or container (its cgroup)",
            hint="ask for more memory, or give fewer --workers" if processes > 1 else "ask for more memory, or lower apply.block_days",
        )


def _block_bytes(job: Job, block_days: int) -> int:
    members = job.members.number if job.members else 1
    cells = job.run.fine.shape[0] * job.run.fine.shape[1]
    return _BLOCKS * 4 * block_size(job.run, block_days, members) * members * len(job.run.targets) * cells


def _feature_bytes(job: Job) -> int:
    """Of a batch inside the network, measured on one day; nothing where another device has it."""
    if job.run.device.type != "cpu" or not len(job.feed.days):
        return 0
    largest = 0

    def look(module: nn.Module, given: Any, made: Any) -> None:
        nonlocal largest
        largest = max(largest, made.nbytes if isinstance(made, Tensor) else 0)

    windows, scalars, surface = job.feed.block(0, 1, Holes.of(job.run.spec))
    job.feed.close()
    handles = [module.register_forward_hook(look) for module in job.run.emulator.modules()]
    try:
        arrays = (windows.maps, scalars, surface, np.asarray(job.feed.days[:1]).astype(np.int64))
        with torch.inference_mode():
            job.run.emulator(Inputs(*(torch.from_numpy(array) for array in arrays)))
    finally:
        for handle in handles:
            handle.remove()
    return _FEATURES * batch_size(job.run) * largest
