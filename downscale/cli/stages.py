"""The stages of an experiment, in order: prepare, train, apply, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.judging import (
    Box,
    CommonDays,
    December,
    Experiment,
    FillOf,
    Judges,
    JudgesScheduler,
    Land,
    Mask,
    MemberOf,
    MemoryOf,
    PredictionFiles,
    Predictors,
    ReferenceFiles,
    ScoreProfile,
    ScoresOut,
    UnitsOf,
    VariablesOf,
    YearStarts,
)
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
PartOf = Annotated[
    str | None,
    typer.Option(
        "--part", metavar="I/N", help="do one of N parts only, beside the others, on any nodes; then the command without --part finishes"
    ),
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
    part: PartOf = None, overwrite: Overwrite = False, dry_run: DryRun = False, force_unlock: ForceUnlock = False, *,
    progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Files to pairs: upscale the RCM to RCMu, bring GCMs to the same grid, pair day by day.  -> WORKSPACE/pairs.zarr"""
    from downscale.cli.evaluate import with_consistency
    from downscale.config.load import load_config
    from downscale.hpc.room import parse_size
    from downscale.pairs.build import build_pairs
    from downscale.pairs.parts import Part

    cfg, limit = load_config(config, overrides or ()), parse_size(max_memory, "--max-memory") if max_memory else None
    summary = build_pairs(
        cfg, overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, workers=workers, scheduler=scheduler, max_memory=limit,
        part=Part.parse(part) if part else None, progress=progress,
    )  # fmt: skip
    return with_consistency(cfg, summary)


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
    config: Experiment = None, predictors: Predictors = False, prediction: PredictionFiles = None, reference: ReferenceFiles = None,
    output: ScoresOut = None, profile: ScoreProfile = "default", variable: VariablesOf = None, region: Box = None, mask: Mask = None,
    land: Land = None, common_days: CommonDays = False, assume_units: UnitsOf = None, fill_value: FillOf = None, member: MemberOf = None,
    year_starts: YearStarts = None, december: December = "calendar", workers: Judges = None, scheduler: JudgesScheduler = None,
    max_memory: MemoryOf = None, overrides: Set = None,
    overwrite: Overwrite = False, dry_run: DryRun = False, force_unlock: ForceUnlock = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Judge all predictions on the test days and write the report.  -> WORKSPACE/scores, WORKSPACE/report/index.html

    With --predictors: only how GCM and RCMu agree.  -> WORKSPACE/consistency/report/index.html
    Without CONFIG: files against files, --prediction FILE... --reference FILE... -o DIR.  -> DIR
    """
    from downscale.cli.evaluate import evaluate_either

    files = {
        "prediction": prediction, "reference": reference, "output": output, "profile": profile, "variables": variable, "region": region,
        "mask": mask, "land": land, "common_days": common_days, "assume_units": assume_units, "fill_values": fill_value, "member": member,
        "year_starts": year_starts, "december": december, "max_memory": max_memory,
    }  # fmt: skip
    own = {"overrides": overrides or [], "predictors": predictors, "dry_run": dry_run, "force_unlock": force_unlock}
    return evaluate_either(config, own, files, {"workers": workers, "scheduler": scheduler, "overwrite": overwrite}, progress)


@stage("report")
def report(config: ConfigPath, overrides: Set = None, *, progress: ProgressLine) -> dict[str, Any]:
    """Draw the report again from existing scores.  -> WORKSPACE/report/index.html"""
    from downscale.config.load import load_config
    from downscale.report.html import make_report

    return {"artefact": make_report(load_config(config, overrides or ()), progress=progress, config=str(config))}
