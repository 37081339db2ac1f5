"""One period of a prediction to its files, computed and written side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from downscale.apply.align_runs import write_fitted
from downscale.apply.features import write_features
from downscale.apply.flow import HDF5, Behind
from downscale.apply.marks import FILES
from downscale.apply.members import Members, mean_and_spread
from downscale.apply.predict import emulate_blocks
from downscale.apply.tasks import Job, Part
from downscale.apply.trust import Novelty
from downscale.profiles.output import Output, open_output
from downscale.profiles.spec import OutputSpec
from downscale.training.run import Run


def write_part(part: Part, block_days: int) -> Generator[int]:
    """Emulate and write one period, and record it.

    Yields:
        days done, block by block.

    Raises:
        DownscaleError: the files cannot be written; nothing unfinished is left.
    """
    job = part.job
    job.retire()
    run, draws = _who(job)
    novelty = Novelty.of(run)
    attributes = {**(novelty.attributes if novelty else {}), **{name: one.attributes for name, one in job.series.items()}}
    missing: list[int] = []
    with ExitStack() as stack:
        outputs = [stack.enter_context(open_output(job.layout.profile, spec)) for spec in _specs(part, attributes)]
        blocks = emulate_blocks(run, job.feed, block_days, part.start, part.stop, draws)
        at = part.start
        with closing(blocks), Behind(_one_at_a_time(outputs)) as write:
            for block in blocks:
                missing += block.days[~block.whole].tolist()
                series = novelty.score(block.maps, block.scalars, block.days) if novelty else {}
                window = slice(at, at + len(block.days))
                series |= {name: one.values[window] for name, one in job.series.items()}
                write(block.days, mean_and_spread(block.fields) if len(outputs) > 1 else (block.fields,), series)
                at = window.stop
                yield len(block.days)
    write_fitted(job.aligned, job.folder)
    job.feed.close()
    files = {key: files_of(output, job.run.targets, job.folder) for key, output in zip(FILES, outputs, strict=False)}
    climate = write_features(novelty, job.folder, part.period)
    part.done(files, missing, novelty.counts() if novelty else {}, climate)


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
    return runs[0], _Draws(members, str(job.facts["input_digest"]))


def _specs(part: Part, series: Mapping[str, Mapping[str, Any]]) -> list[OutputSpec]:
    """The output, or two: the mean of the members and their spread."""
    members = part.job.members
    if members is None or members.config.write == "members":
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
