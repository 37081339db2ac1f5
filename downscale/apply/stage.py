"""Entry points of apply: all runs of a workspace on its sources, or one run folder on any files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downscale.apply.files import FileOptions, file_jobs
from downscale.apply.jobs import config_jobs
from downscale.apply.marks import MANIFEST
from downscale.apply.share import ProgressCallback
from downscale.apply.tasks import Job
from downscale.apply.trust import judge, line
from downscale.apply.workers import MODULE, cores_each, run_with
from downscale.config.schema import ExperimentConfig
from downscale.config.trust import OodConfig
from downscale.hpc.crew import Crew
from downscale.hpc.room import require_writable


@dataclass(frozen=True)
class Manner:
    """How a list of predictions is worked off.

    Attributes:
        overwrite: replace predictions of another recipe.
        dry_run: say what would be done, write nothing.
        force_unlock: take over locks, whatever they say.
        wait: stay until what other processes have claimed is done too.
        workers: processes on the list, this one among them.
        crew: the others, where they have been started already.
        progress: called with days done, all days, and what is in work.
    """

    overwrite: bool = False
    dry_run: bool = False
    force_unlock: bool = False
    wait: bool = True
    workers: int = 1
    crew: Crew | None = None
    progress: ProgressCallback | None = None

    def hire(self, order: Mapping[str, Any]) -> Crew:
        """The other processes, told what was asked."""
        others = 0 if self.dry_run else self.workers - 1
        crew = self.crew if self.crew is not None else Crew(others, MODULE)
        crew.tell({**order, "overwrite": self.overwrite, "threads": cores_each(crew.size + 1)})
        return crew


def apply_run(
    cfg: ExperimentConfig, *, runs: Sequence[str] = (), sources: Sequence[str] = (), device: str = "auto", **manner: Any
) -> dict[str, Any]:
    """Apply runs to the prepared sources of an experiment.

    Args:
        cfg: the experiment.
        runs: names in the workspace or paths; all complete runs of the workspace when empty.
        sources: names of rcm or gcm sources; all when empty. An rcm source means its RCMu, a gcm source its own fields.
        device: "auto", "cpu" or "cuda".
        **manner: see Manner.

    Returns:
        ``artefact`` and a line per prediction.

    Raises:
        TransferabilityError: too many days are far from the training days, and ``apply.ood.on_exceed`` is "fail".
    """
    root = cfg.workspace_path() / "predictions"
    require_writable(root)
    how = Manner(**manner)
    order = {"config": json.loads(cfg.model_dump_json()), "runs": list(runs), "sources": list(sources), "device": device}
    with how.hire(order) as crew:
        jobs = config_jobs(cfg, runs, sources, device)
        done = _work(jobs, cfg.apply.block_days, how, crew, share=True)
    return {"artefact": root if "predictions" in done else None, **done, **_far(jobs, cfg.apply.ood)}


def apply_files(
    run_path: Path, inputs: Sequence[Path], output: Path, *, options: FileOptions | None = None, device: str = "auto", **manner: Any
) -> dict[str, Any]:
    """Apply one run folder to files, without config or training data.

    Args:
        run_path: the run folder.
        inputs: NetCDF files of a GCM or of an RCM with the run's channels.
        output: folder for one file per variable; with several members or model runs, for a folder for each.
        options: how files are read and written.
        device: "auto", "cpu" or "cuda".
        **manner: see Manner.

    Raises:
        InputDataError: channels, levels, units or grid do not fit the run (a line per difference).
    """
    require_writable(output)
    options, how = options or FileOptions(), Manner(**manner)
    order = {
        "run": str(run_path),
        "inputs": [str(path) for path in inputs],
        "output": str(output),
        "options": options.plain(),
        "device": device,
    }
    with how.hire(order) as crew:
        jobs = file_jobs(run_path, inputs, output, options, device)
        done = _work(jobs, options.config.block_days, how, crew, share=len(jobs) > 1 or how.workers > 1)
    notes = list(dict.fromkeys(note for job in jobs for note in job.facts["notes"]))
    if "predictions" not in done:
        return {"artefact": None, **done, "notes": notes}
    single = {"days": _span(jobs[0]), "manifest": str(output / MANIFEST)} if len(jobs) == 1 else {}
    return {"artefact": output, **single, "notes": notes, **done, **_far(jobs, options.config.ood)}


def _work(jobs: Sequence[Job], block_days: int, how: Manner, crew: Crew, *, share: bool) -> dict[str, Any]:
    if how.dry_run:
        return {"would write": [f"{job.folder}: {', '.join(job.run.targets)} for {_span(job)}" for job in jobs]}
    lines = run_with(
        crew,
        jobs,
        block_days=block_days,
        overwrite=how.overwrite,
        force_unlock=how.force_unlock,
        wait=how.wait,
        share=share,
        progress=how.progress,
    )
    return {"predictions": lines}


def _span(job: Job) -> str:
    days = job.feed.days
    return f"{days[0]}..{days[-1]} ({len(days)} days, {job.feed.calendar})" if len(days) else "no days"


def _far(jobs: Sequence[Job], ood: OodConfig) -> dict[str, Any]:
    """Lines about days far from the training days, of finished predictions."""
    found = {f"{job.folder.parent.name}/{job.folder.name}": (job.recorded() or {}).get("ood") for job in jobs if job.complete()}
    known = {name: summary for name, summary in found.items() if summary}
    judge(known, ood.threshold_share, ood.on_exceed)
    return {"days far from training": [f"{name}: {line(summary)}" for name, summary in known.items()]} if known else {}
