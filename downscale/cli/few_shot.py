"""The command few-shot: a grid of adaptations to a few years of truth, a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.options import ConfigPath, Device, DryRun, ForceUnlock, Overwrite, Set, stage

From = Annotated[str, typer.Option("--from", metavar="RUN", help="run to go on from: name in the workspace or path")]
Shots = Annotated[str, typer.Option("--shots", metavar="N,N,...", help="whole years of truth, e.g. 0,1,2,5,10; 0: without any")]
Draws = Annotated[int, typer.Option(min=1, help="choices of the years; the first is spread evenly, the others are random")]
Seeds = Annotated[int, typer.Option(min=1, help="trainings of each choice, with the seeds from train.seed on")]
Methods = Annotated[
    str,
    typer.Option(
        metavar="NAME,NAME,...",
        help="of zero_shot, gcm_align, adabn, full, head, film_norm, input_adapter, calibration, replay, scratch, ridge; "
        "default: all that there are for the run",
    ),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="stay until the cells of other processes are done too; then table and plot")]


@stage("few-shot")
def few_shot(
    config: ConfigPath, source_run: From, shots: Shots = "0,1,2,5", draws: Draws = 1, seeds: Seeds = 1, methods: Methods = "",
    device: Device = "auto", wait: Wait = True, overrides: Set = None, overwrite: Overwrite = False, dry_run: DryRun = False,
    force_unlock: ForceUnlock = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Learn from RUN how many years of truth a new GCM needs, and by which method.  -> WORKSPACE/few_shot/RUN-PAIRS

    Several of these commands, on one machine or on many, share the cells of the grid: start as many as you like.
    """
    from downscale.apply.curve import Grid

    grid = Grid(parse_shots(shots), draws, seeds, [name for name in methods.replace(" ", "").split(",") if name])
    options = {"overwrite": overwrite, "dry_run": dry_run, "force_unlock": force_unlock, "wait": wait, "device": device}
    return curve_and_report(config, overrides or [], grid, source_run, **options, progress=progress)


def parse_shots(text: str) -> list[int]:
    """Numbers of years; ConfigError where the text says something else."""
    from downscale.errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--shots: '{text}' is not a list of numbers of years", hint="give whole numbers, e.g. --shots 0,1,2,5")
    return sorted({int(part) for part in parts})


def curve_and_report(
    config: Path, overrides: list[str], grid: Any, source_run: str, *, progress: ProgressLine, **options: Any
) -> dict[str, Any]:
    """Run the grid, then write table.csv, cells.csv and curve.png beside its cells."""
    from downscale.apply.curve import run_grid
    from downscale.config.load import load_config
    from downscale.evaluate.few_shot import LABEL_FREE, Scorer, screen, summarise, write_summary
    from downscale.report.few_shot import draw_curve

    cfg = load_config(config, overrides)

    def scorer(store: Any, group: str) -> Scorer:
        return Scorer.of(store, group, cfg.split.year_starts, cfg.evaluate.region)

    result = run_grid(cfg, grid, source_run=source_run, scorer=scorer, progress=progress, **options)
    if options["dry_run"]:
        return result
    if "left" in result:
        return {**result, "cells": len(result["cells"]), "next": "table and plot when they are done: the same command without --no-wait"}
    summary = summarise(result["cells"])
    write_summary(result["artefact"], summary, result["cells"])
    learned = list(dict.fromkeys(row["method"] for row in summary.rows if row["method"] not in LABEL_FREE))
    levels = {row["method"]: row["error"] for row in summary.rows if row["method"] in LABEL_FREE}
    picture = result["artefact"] / "curve.png"
    draw_curve(picture, {one: summary.curve(one) for one in learned}, levels, summary.n90, title=result["artefact"].name)
    years = {method: "not on this grid" if n == float("inf") else f"{n:.2g} years" for method, n in summary.n90.items() if n == n}
    best = {f"{shots} year(s)": method for shots, method in summary.best.items()}
    return {
        **result,
        "cells": len(result["cells"]),
        "table": screen(summary),
        "90 % of the gain": years,
        "lowest error": best,
        "plot": picture,
    }
