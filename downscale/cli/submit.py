"""Jobs on a cluster: the stages as a chain of SLURM jobs, and the end of one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from downscale.cli.console import Options, ProgressLine, run_stage
from downscale.cli.options import ConfigPath, Json, LogFormat, Quiet, Set, Verbose, stage

log = logging.getLogger(__name__)
Stages = Annotated[list[str], typer.Argument(metavar="STAGE...", help="in this order: prepare, train, few-shot, apply, evaluate")]
SiteName = Annotated[str | None, typer.Option("--site", metavar="NAME|FILE", help="site profile: a name or a YAML file; replaces hpc.site")]
Print = Annotated[bool, typer.Option("--print", help="show the scripts; submit and write nothing")]
From = Annotated[str | None, typer.Option("--from", metavar="RUN", help="few-shot: run to go on from, also one that the chain trains")]
Shots = Annotated[str | None, typer.Option("--shots", metavar="N,N,...", help="few-shot: whole years of truth")]
Draws = Annotated[int | None, typer.Option(min=1, help="few-shot: choices of the years")]
Seeds = Annotated[int | None, typer.Option(min=1, help="few-shot: trainings of each choice")]
Methods = Annotated[str | None, typer.Option(metavar="NAME,NAME,...", help="few-shot: methods")]
Dask = Annotated[int, typer.Option("--dask", min=0, metavar="N", help="prepare, evaluate: a Dask with N workers, started within the job")]
After = Annotated[str | None, typer.Option("--after", metavar="JOBID", help="begin when this job has succeeded")]
Estimate = Annotated[bool, typer.Option("--estimate/--no-estimate", help="rehearse once what the config gives no time and memory for")]


def submit(
    config: ConfigPath, stages: Stages, site: SiteName = None, show: Print = False, source_run: From = None, shots: Shots = None,
    draws: Draws = None, seeds: Seeds = None, methods: Methods = None, overrides: Set = None, dask: Dask = 0, after: After = None,
    estimate: Estimate = True, verbose: Verbose = False, quiet: Quiet = False, log_format: LogFormat = "text", json_output: Json = False,
) -> None:  # fmt: skip
    """Run stages as SLURM jobs, each after the one before.  -> WORKSPACE/slurm

    A job that is about to reach its time limit saves, and goes on by itself. `downscale status` says how far all are.
    """
    few_shot = {"--from": source_run, "--shots": shots, "--draws": draws, "--seeds": seeds, "--methods": methods}
    words = [part for name, value in few_shot.items() if value is not None for part in (name, str(value))]

    def work(progress: ProgressLine) -> dict[str, Any]:
        summary, scripts = submit_stages(
            config, stages, overrides or [], site=site, few_shot=words, dask=dask, after=after, estimate=estimate, show=show,
            progress=progress,
        )  # fmt: skip
        if scripts and not json_output:
            typer.echo(scripts)
        return {**summary, **({"scripts": scripts} if scripts and json_output else {})}

    run_stage("submit", Options(verbose, quiet or show, log_format, json_output), work)


@stage("cancel")
def cancel(config: ConfigPath, overrides: Set = None, *, progress: ProgressLine) -> dict[str, Any]:
    """End all jobs of the workspace that are not finished; what they have finished is kept."""
    from downscale.config.load import load_config
    from downscale.hpc.jobs import cancel as cancel_jobs

    del progress
    jobs = cancel_jobs(load_config(config, overrides or ()).workspace_path().absolute())
    return {"artefact": None, "cancelled": ", ".join(jobs) or "no job of this workspace was in the queue"}


def submit_stages(
    config: Path, stages: list[str], overrides: list[str], *, site: str | None, few_shot: list[str], dask: int, after: str | None,
    estimate: bool, show: bool, progress: ProgressLine,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Plan the chain; then submit it, or say its scripts."""
    from downscale.cli.estimate import estimates, needed
    from downscale.config.load import load_config
    from downscale.hpc import slurm
    from downscale.hpc.sites import load_site
    from downscale.hpc.submit import Request, check_stages, plan, printed, setting_of
    from downscale.hpc.submit import submit as submit_jobs

    request = Request(config, check_stages(stages), overrides, few_shot, dask, after)
    if not show:
        slurm.require_slurm()
    cfg = load_config(config, overrides)
    profile = load_site(site or cfg.hpc.site)
    plan(cfg, request, profile, {})  # what is refused is refused before the rehearsal
    expected = estimates(cfg, stages, keep=not show, progress=progress) if estimate and needed(cfg, stages) else {}
    jobs, setting = plan(cfg, request, profile, expected), setting_of(cfg, request, profile)
    notes = list(dict.fromkeys(note for job in jobs for note in job.resources.notes))
    for note in notes:
        log.warning("%s", note)
    if show:
        return {"artefact": None}, printed(jobs, setting, after)
    entries = submit_jobs(cfg, request, jobs, setting)
    lines = [
        f"{job.key}: job {entry.job}{f', {len(job.items)} tasks' if job.items else ''}, {job.resources.describe()}"
        for job, entry in zip(jobs, entries, strict=True)
    ]
    return {"artefact": setting.folder, "jobs": lines, "logs": setting.workspace / "slurm" / "logs"}, ""
