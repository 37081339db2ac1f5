"""A list of pieces of work that any number of processes share without talking to each other: whoever makes the lock file first does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from downscale.apply.tasks import Job, Part
from downscale.apply.write import write_part
from downscale.errors import Stopped
from downscale.hpc.locks import LockHeldError, folder_lock, holder
from downscale.hpc.signals import StopFlag

ProgressCallback = Callable[[int, int, str], None]
LOOK_SECONDS = 2.0
"""How often, at the rarest, a process that has nothing left to claim looks whether the others are done."""
FIRST_LOOK_SECONDS = 0.1


def run_jobs(
    jobs: Sequence[Job],
    *,
    block_days: int,
    overwrite: bool = False,
    force_unlock: bool = False,
    wait: bool = True,
    share: bool = True,
    progress: ProgressCallback | None = None,
    started: Callable[[], None] | None = None,
) -> list[str]:
    """Do what is not done yet and nobody else is doing.

    Args:
        jobs: predictions; the periods of each are claimed one by one.
        block_days: see emulate_blocks.
        overwrite: replace predictions of another recipe.
        force_unlock: take over locks, whatever they say.
        wait: stay until what others have claimed is done too, and go on with it should they die.
        share: leave alone what another process has claimed; otherwise that is an error.
        progress: called with the days done here, those to be done here for all that is known, and what is in work.
        started: called once everything has been looked at and nothing refused.

    Returns:
        one line per prediction: folder, and whether it was written, was complete already, or in whose work it is.

    Raises:
        OutputExistsError: a folder holds a prediction of another recipe, or foreign files, or is or holds a link; or, without ``share``,
            another process works on it.
        Stopped: a signal came; finished periods stay, the same command goes on.
    """
    before = {job.folder for job in jobs if job.complete()}
    todo = [job for job in jobs if job.folder not in before]
    for job in todo:
        job.refuse_links()
        job.refuse_others(overwrite=overwrite)
    if started is not None and todo:
        started()
    for job in todo:
        job.inputs.complete()
    with StopFlag.in_job() as stop, _even_threads():
        work = _Work([part for job in todo for part in job.parts], block_days, stop, progress)
        while work.left and (work.claim(force=force_unlock, share=share) or wait):
            pass
    for job in todo:
        if not job.complete():
            job.finish()  # whoever did the last period may have been killed before saying so
    for job in jobs:
        job.tidy()
    return [line_of(job, before) for job in jobs]


@contextmanager
def _even_threads() -> Iterator[None]:
    """Inside, PyTorch takes a power of two of threads: with others some convolutions sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 << (before.bit_length() - 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Work:
    """What is left of a list of parts."""

    def __init__(self, parts: Sequence[Part], block_days: int, stop: StopFlag, progress: ProgressCallback | None) -> None:
        self.left = list(parts)
        self._block_days, self._stop, self._progress = block_days, stop, progress
        self._total = sum(part.stop - part.start for part in parts)
        self._done = 0
        self._patience = FIRST_LOOK_SECONDS

    def claim(self, *, force: bool, share: bool) -> bool:
        """Do all that nobody else has claimed; where that is nothing, wait a little and return False."""
        held = []
        for part in self.left:
            self._look(part)
            try:
                with folder_lock(part.job.folder, force=force, name=part.lock):
                    self._do(part)
            except LockHeldError:
                if not share:
                    raise
                held.append(part)
        claimed, self.left = len(held) < len(self.left), held
        if claimed:
            self._patience = FIRST_LOOK_SECONDS
        else:
            until = time.monotonic() + self._patience
            while time.monotonic() < until:
                self._look(held[0])
                time.sleep(0.1)
            self._patience = min(2 * self._patience, LOOK_SECONDS)
        return claimed

    def _do(self, part: Part) -> None:
        if part.complete():
            self._total -= part.stop - part.start
            return
        with closing(write_part(part, self._block_days)) as blocks:
            for days in blocks:
                self._tell(days, part)
                self._look(part)

    def _tell(self, days: int, part: Part) -> None:
        self._done += days
        if self._progress is not None:
            self._progress(self._done, self._total, part.name)

    def _look(self, part: Part) -> None:
        if self._stop.set:
            raise Stopped(
                f"stopped by {self._stop.name}; what is finished is kept",
                where=str(part.job.folder),
                hint="run the same command again to go on",
            )


def line_of(job: Job, before: Collection[Path]) -> str:
    """What became of a prediction; ``before``: the folders of those that were complete already."""
    days = f"{len(job.feed.days)} days"
    if job.folder in before:
        return f"{job.folder}: complete already, {days}"
    if job.complete():
        return f"{job.folder}: written, {days}"
    left = [part for part in job.parts if not part.complete()]
    who = sorted({words for part in left if (words := holder(job.folder / part.lock))})
    of = f"{len(left)} of {len(job.parts)} periods left, " if len(job.parts) > 1 else ""
    return f"{job.folder}: {of}in work by {', '.join(who) or 'nobody'}"
