"""One period of a prediction to its files, computed and written side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from downscale import __version__
from downscale.apply.align_runs import write_fitted
from downscale.apply.features import write_features
from downscale.apply.flow import HDF5, Behind
from downscale.apply.kept import Block, KeptBlocks
from downscale.apply.marks import FILES
from downscale.apply.members import Members, mean_and_spread
from downscale.apply.predict import emulate_blocks
from downscale.apply.room import blocks_fit
from downscale.apply.tasks import Job, Part
from downscale.apply.trust import Novelty
from downscale.config.load import digest
from downscale.errors import DiskFullError
from downscale.hpc.room import telling_full_disk
from downscale.profiles.output import Output, open_output
from downscale.profiles.spec import OutputSpec
from downscale.training.run import Run


def write_part(part: Part, block_days: int) -> Generator[int]:
    """Emulate and write one period, and record it; blocks that an unfinished process has computed are only written.

    Computed blocks are kept meanwhile, where the disk has room for them beside the output; where they turn out to take the room that the
    output needs, they go, and the period is begun anew.

    Yields:
        days done, block by block; less than none where they are done again.

    Raises:
        DownscaleError: the files cannot be written; nothing unfinished is left.
    """
    job, done = part.job, 0
    job.retire()
    with telling_full_disk(job.folder, kept="free some space, then run the same command again: finished periods are kept"):
        job.folder.mkdir(parents=True, exist_ok=True)
        with KeptBlocks(part.blocks, digest({**part.recipe, "version": __version__})) as kept:
            if not blocks_fit(part):
                kept.give_up("the disk has little room")
            try:
                for days in _write(part, block_days, kept):
                    done += days
                    yield days
            except DiskFullError:
                if kept.given_up:
                    raise
                kept.give_up("the disk is full")
                yield -done
                yield from _write(part, block_days, kept)


def _write(part: Part, block_days: int, kept: KeptBlocks) -> Generator[int]:
    job = part.job
    run, draws = _who(job)
    novelty = Novelty.of(run)
    attributes = {**(novelty.attributes if novelty else {}), **{name: one.attributes for name, one in job.series.items()}}
    missing: list[int] = []
    with ExitStack() as stack:
        outputs = [stack.enter_context(open_output(job.layout.profile, spec)) for spec in _specs(part, attributes)]
        with closing(_blocks(part, run, draws, novelty, block_days, kept)) as blocks, Behind(_one_at_a_time(outputs)) as write:
            for block in blocks:
                missing += block.missing
                write(block.days, block.fields, block.series)
                yield len(block.days)
    write_fitted(job.aligned, job.folder)
    job.feed.close()
    files = {key: files_of(output, job.run.targets, job.folder) for key, output in zip(FILES, outputs, strict=False)}
    climate = write_features(novelty, job.folder, part.period)
    part.done(files, missing, novelty.counts() if novelty else {}, climate)


def _blocks(
    part: Part, run: Run, draws: _Draws | None, novelty: Novelty | None, block_days: int, kept: KeptBlocks
) -> Generator[Block]:  # fmt: skip
    """The blocks of a period: those that are kept, then those that are computed and kept now."""
    job, at, last = part.job, part.start, None
    for last in kept.read(part.days):
        at += len(last.days)
        yield last
    if last is not None and novelty:
        novelty.go_on(last.counts, last.sums)
    with closing(emulate_blocks(run, job.feed, block_days, at, part.stop, draws)) as computed:
        for one in computed:
            series = novelty.score(one.maps, one.scalars, one.days) if novelty else {}
            window = slice(at, at + len(one.days))
            series |= {name: numbers.values[window] for name, numbers in job.series.items()}
            at = window.stop
            fields = mean_and_spread(one.fields) if _gives_spread(job) else (one.fields,)
            counted = (novelty.counts(), novelty.sums) if novelty else ({}, None)
            block = Block(one.days, tuple(fields), series, one.days[~one.whole].tolist(), *counted)
            kept.add(block)
            yield block


SPREAD = "spread"
"""Folder of the standard deviation over members."""


@dataclass(frozen=True)
class _Draws:
    """The members of one input."""

    members: Members
    key: str

    @property
    def number(self) -> int:
        return self.members.number

    def fields(self, *arrays: np.ndarray) -> np.ndarray:
        return self.members.fields(self.key, *arrays)


def _who(job: Job) -> tuple[Run, _Draws | None]:
    """The run that reads the input, with its statistics where the alignment replaces them, and the members."""
    runs = [one.run() for one in job.aligned] or [job.run]
    if job.members is None:
        return runs[0], None
    members = replace(job.members, runs=tuple(runs)) if job.aligned else job.members
    return runs[0], _Draws(members, f"{job.facts['input_digest']} {job.facts['kind']}")


def _gives_spread(job: Job) -> bool:
    return job.members is not None and job.members.config.write != "members"


def _specs(part: Part, series: Mapping[str, Mapping[str, Any]]) -> list[OutputSpec]:
    """The output, or two: the mean of the members and their spread."""
    members = part.job.members
    if not _gives_spread(part.job):
        return [part.spec(members=members.labels if members else (), series=series)]
    mean = part.spec(series=series, statistic="mean")
    return [mean, replace(mean, folder=part.job.folder / SPREAD, series={}, statistic="standard_deviation")]


def _one_at_a_time(outputs: Sequence[Output]) -> Callable[[np.ndarray, Sequence[np.ndarray], Mapping[str, np.ndarray]], None]:
    def append(days: np.ndarray, fields: Sequence[np.ndarray], series: Mapping[str, np.ndarray]) -> None:
        with HDF5:
            for position, output in enumerate(outputs):
                output.append(days, fields[position], {} if position else series)

    return append


def files_of(output: Output, variables: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """Files by variable, relative to the folder of the prediction: by their names, or all where one holds everything."""
    found = {}
    for name in variables:
        own = [path for path in output.files if path.suffix == ".zarr" or path.name.startswith((f"{name}.", f"{name}_"))]
        found[name] = [path.relative_to(folder).as_posix() for path in own if path.parent.name != "series"]
    return found
