"""The stages of an experiment, in order: prepare, train, apply, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.options import (
    Aggregate,
    AssumeUnits,
    ConfigPath,
    Device,
    DryRun,
    Facets,
    FillValues,
    ForceUnlock,
    Forcings,
    Inputs,
    Layouts,
    Members,
    OutputFolder,
    Overwrite,
    PerRun,
    Runs,
    Set,
    Sources,
    stage,
)

Builders = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="processes that build; default: by cores, memory and size; 1: no other process"),
]
MaxMemory = Annotated[str | None, typer.Option("--max-memory", metavar="SIZE", help="memory of each process, e.g. 2GB")]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="tcp://HOST:PORT or scheduler file of a running Dask; its workers build"),
]
Mode = Annotated[Literal["pretrain", "finetune", "few-shot"], typer.Option(help="few-shot: fine-tune on a few whole years")]
SourceRun = Annotated[str | None, typer.Option("--from", metavar="RUN", help="run to go on from (finetune, few-shot)")]
Shots = Annotated[int | None, typer.Option(min=1, help="whole years for few-shot")]
Seed = Annotated[int | None, typer.Option(help="replaces train.seed")]
Name = Annotated[str | None, typer.Option(help="name of the run")]
Appliers = Annotated[int, typer.Option("--workers", min=1, metavar="N", help="processes that share the list and the cores")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="stay until what other processes have claimed is done too")]
What = Annotated[Path, typer.Argument(metavar="CONFIG|RUN", help="experiment YAML (with --run), or a run folder (with --input)")]


@stage("prepare")
def prepare(
    config: ConfigPath, overrides: Set = None, workers: Builders = None, max_memory: MaxMemory = None, scheduler: Scheduler = None,
    overwrite: Overwrite = False, dry_run: DryRun = False, force_unlock: ForceUnlock = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Files to pairs: upscale the RCM to RCMu, bring GCMs to the same grid, pair day by day.  -> WORKSPACE/pairs.zarr"""
    from downscale.config.load import load_config
    from downscale.hpc.room import parse_size
    from downscale.pairs.build import build_pairs

    limit = parse_size(max_memory, "--max-memory") if max_memory else None
    return build_pairs(
        load_config(config, overrides or ()), overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, workers=workers,
        scheduler=scheduler, max_memory=limit, progress=progress,
    )  # fmt: skip


@stage("train")
def train(
    config: ConfigPath, mode: Mode = "pretrain", source_run: SourceRun = None, shots: Shots = None, seed: Seed = None, name: Name = None,
    device: Device = "auto", overrides: Set = None, overwrite: Overwrite = False, dry_run: DryRun = False,
    force_unlock: ForceUnlock = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Learn the emulator and its baselines from pairs; several processes: torchrun or srun.  -> WORKSPACE/runs/RUN"""
    from downscale.config.load import load_config
    from downscale.hpc.ranks import place
    from downscale.training.modes import train_run

    summary = train_run(
        load_config(config, overrides or ()), mode=mode, source_run=source_run, shots=shots, seed=seed, name=name, device=device,
        overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, progress=progress,
    )  # fmt: skip
    if place().rank:
        raise typer.Exit  # the first process says what was made
    return summary


@stage("apply")
def apply(
    context: typer.Context, what: What, run: Runs = None, source: Sources = None, inputs: Inputs = None, output: OutputFolder = None,
    per_run: PerRun = False, member: Members = None, forcings: Forcings = None, assume_units: AssumeUnits = None,
    fill_value: FillValues = None, aggregate: Aggregate = "none",
    profile: Layouts = "cf", facet: Facets = None, device: Device = "auto", workers: Appliers = 1, wait: Wait = True,
    overrides: Set = None, overwrite: Overwrite = False, dry_run: DryRun = False, force_unlock: ForceUnlock = False, *,
    progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Emulate: RCMu or a GCM in, fine CF NetCDF out.  -> WORKSPACE/predictions/... or the folder of -o

    Several of these commands, on one machine or on many, share the list of what is to be done: start as many as you like.
    """
    from downscale.cli.apply import apply_either

    given = {
        "inputs": [*(inputs or []), *map(Path, context.args)], "output": output, "per_run": per_run, "members": member or [],
        "forcings": forcings, "assume_units": assume_units or [], "fill_values": fill_value or [], "aggregate": aggregate,
        "profile": profile, "facets": facet or [],
    }  # fmt: skip
    return apply_either(
        what, {"runs": run or [], "sources": source or [], "overrides": overrides or []}, given, device=device, workers=workers, wait=wait,
        overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, progress=progress,
    )  # fmt: skip


@stage("evaluate")
def evaluate(
    config: ConfigPath, overrides: Set = None, overwrite: Overwrite = False, dry_run: DryRun = False, force_unlock: ForceUnlock = False,
    *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Judge all predictions on the test days and write the report.  -> WORKSPACE/scores, WORKSPACE/report/index.html"""
    from downscale.cli.evaluate import evaluate_and_report

    options = {"overwrite": overwrite, "dry_run": dry_run, "force_unlock": force_unlock}
    return evaluate_and_report(config, overrides or [], **options, progress=progress)


@stage("report")
def report(config: ConfigPath, overrides: Set = None, *, progress: ProgressLine) -> dict[str, Any]:
    """Draw the report again from existing scores.  -> WORKSPACE/report/index.html"""
    from downscale.config.load import load_config
    from downscale.report.html import make_report

    return {"artefact": make_report(load_config(config, overrides or ()), progress=progress)}
