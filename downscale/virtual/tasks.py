"""What one worker process does: the RCM files of a few years, or the GCM files of a period."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from downscale.variables import Channel
from downscale.virtual import files, geometry, names, truth
from downscale.virtual.simulation import Chain, blocks
from downscale.virtual.storage import Storage

_PER_DAY = np.float32(1.0 / 86_400.0)


@dataclass(frozen=True)
class Task:
    """Files that one process writes: the RCM's of a few years, or the GCM's of a period (years None)."""

    directory: Path
    chain: Chain
    channels: tuple[Channel, ...]
    storage: Storage
    years: tuple[int, int] | None
    fixed: bool = False

    @property
    def label(self) -> str:
        """For progress lines."""
        kind = "gcm" if self.years is None else "rcm"
        first, last = self.years or (self.chain.period.first, self.chain.period.last)
        return f"{kind} {self.chain.gcm.name} {first}-{last}"

    def paths(self) -> list[str]:
        """All files of the task, below the directory."""
        if self.years is None:
            return [names.gcm_path(self.chain, name) for name in _by_variable(self.channels)]
        fixed = [names.fx_path(self.chain, name) for name in ("orog", "sftlf")] if self.fixed else []
        return fixed + [names.rcm_path(self.chain, channel.name, *self.years) for channel in self.channels]


@dataclass
class Result:
    """What a task made: sizes in bytes by path, and the tallies of the RCM's targets."""

    sizes: dict[str, int] = field(default_factory=dict)
    tallies: dict[str, truth.Tally] = field(default_factory=dict)


def run_task(task: Task) -> Result:
    """Writes all files of a task; on any failure none of its unfinished files stays."""
    return _write_gcm(task) if task.years is None else _write_rcm(task, task.years)


def _by_variable(channels: Sequence[Channel]) -> dict[str, list[int]]:
    """Levels by variable; surface variables have none."""
    result: dict[str, list[int]] = {}
    for channel in channels:
        result.setdefault(channel.variable, []).extend([channel.level_hpa] if channel.level_hpa else [])
    return result


def _in_file_units(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**fields, "pr": fields["pr"] * _PER_DAY}


def _write_gcm(task: Task) -> Result:
    chain, variables = task.chain, _by_variable(task.channels)
    grid = (len(chain.gcm_grid.lat), len(chain.gcm_grid.lon))
    with ExitStack() as stack:
        open_files = {}
        for name, levels in variables.items():
            open_files[name] = file = files.open_gcm_file(task.directory, chain, name, levels, task.storage)
            stack.callback(file.discard)
        for month in chain.months(chain.period.first, chain.period.last):
            state = chain.gcm_state(month)
            fields = {**state, **_in_file_units(chain.gcm_surface(state, month))}
            for name, levels in variables.items():
                parts = [fields[f"{name}{level}"] for level in levels] or [fields[name]]
                shape = (month.size, len(levels), *grid) if levels else (month.size, *grid)
                open_files[name].append(np.stack(parts, axis=1).reshape(shape))
        return Result({names.gcm_path(chain, name): file.close() for name, file in open_files.items()})


def _write_rcm(task: Task, years: tuple[int, int]) -> Result:
    chain, side = task.chain, task.chain.size.rcm_cells
    low, high = geometry.boxes(chain.world, chain.size).target
    result = Result(tallies={name: truth.Tally() for name in truth.TARGETS})
    if task.fixed:
        land = chain.rcm_land
        for name, values in (("orog", land.height), ("sftlf", 100.0 * land.land)):
            path, size = files.write_fixed(task.directory, chain, name, values)
            result.sizes[path] = size
    with ExitStack() as stack:
        open_files = {}
        for channel in task.channels:
            open_files[channel.name] = file = files.open_rcm_file(task.directory, chain, channel, years, task.storage)
            stack.callback(file.discard)
        for month, state, response, drawn in blocks(chain, *years):
            fields = {**state, **_in_file_units(drawn)}
            for name, file in open_files.items():
                file.append(fields[name].reshape(-1, side, side))
            for name, tally in result.tallies.items():
                values, variance = (part.reshape(-1, side, side)[:, low:high, low:high] for part in (drawn[name], response.variance(name)))
                tally.add(values.reshape(month.size, -1), variance.reshape(month.size, -1))
        result.sizes |= {names.rcm_path(chain, name, *years): file.close() for name, file in open_files.items()}
    return result
