"""Several processes on one list of predictions: each opens the inputs for itself, then claims work as any other command would."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from downscale.apply.files import FileOptions, file_jobs
from downscale.apply.jobs import config_jobs
from downscale.apply.room import require_room
from downscale.apply.share import ProgressCallback, run_jobs
from downscale.apply.tasks import Job
from downscale.config.schema import ExperimentConfig
from downscale.hpc.crew import Crew, Desk

MODULE = __name__


def run_with(crew: Crew, jobs: Sequence[Job], *, force_unlock: bool, progress: ProgressCallback | None, **manner: Any) -> list[str]:
    """Work on a list together with a crew that was told the same; one of the workers is this process.

    Whatever a worker leaves undone, because it died or failed, this process does in the end, or fails at with the same error.

    Args:
        crew: of processes.
        jobs: predictions, as the workers find them by their order.
        force_unlock: take over locks of others first.
        progress: called with days done by all, all days, and what was done last.
        **manner: see run_jobs.

    Returns:
        a line per prediction.
    """
    if not crew.size:
        check = partial(require_room, jobs, manner["block_days"], 1)
        return run_jobs(jobs, force_unlock=force_unlock, progress=progress, started=check, **manner)
    if force_unlock:
        for job in jobs:
            for part in job.parts:
                (job.folder / part.lock).unlink(missing_ok=True)
    total = sum(part.stop - part.start for job in jobs if not job.complete() for part in job.parts if not part.complete())
    threads = torch.get_num_threads()

    def tell(done: int, _: int, name: str) -> None:
        if progress is not None:
            progress(min(done + crew.done, total), total, name)

    def begin() -> None:
        require_room(jobs, manner["block_days"], crew.size + 1)
        crew.go()

    torch.set_num_threads(cores_each(crew.size + 1))
    try:
        return run_jobs(jobs, progress=tell, started=begin, **manner)
    finally:
        torch.set_num_threads(threads)


def cores_each(workers: int) -> int:
    """Cores of each of several processes that share this machine's."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def serve() -> None:
    """Work on a list as a worker."""
    desk = Desk()

    def prepare() -> Any:
        torch.set_num_threads(int(desk.order["threads"]))
        jobs, block_days = _jobs(desk.order)
        first = desk.order["number"] % max(len(jobs), 1)
        overwrite = bool(desk.order["overwrite"])

        def tell(done: int, total: int, name: str) -> None:
            desk.tell({"done": done})

        return lambda: run_jobs([*jobs[first:], *jobs[:first]], block_days=block_days, overwrite=overwrite, wait=False, progress=tell)

    if desk.order:
        desk.work(prepare)


def _jobs(order: Mapping[str, Any]) -> tuple[list[Job], int]:
    if "config" in order:
        cfg = ExperimentConfig.model_validate(order["config"])
        return config_jobs(cfg, order["runs"], order["sources"], order["device"]), cfg.apply.block_days
    paths = [Path(path) for path in order["inputs"]]
    options = FileOptions.of(order["options"])
    return file_jobs(Path(order["run"]), paths, Path(order["output"]), options, order["device"]), options.config.block_days
