"""The CORDEX ML-Bench: a fixture to try it on, the whole path to a submission, and scores on held-out years."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.options import Device, DryRun, ForceUnlock, Overwrite, Set, stage

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The CORDEX ML-Bench: its files in, a submission out.",
)
Bench = Annotated[Path, typer.Argument(metavar="DIR", help="folder with the benchmark's D_domain folders")]
Out = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="SUBMISSION", help="folder of the submission, named as the entry; SUBMISSION.zip beside it"),
]
Domains = Annotated[list[str] | None, typer.Option("--domain", metavar="NAME", help="ALPS, NZ or SA; repeatable; default all")]
Experiments = Annotated[
    list[str] | None,
    typer.Option("--experiment", help="training experiment; repeatable; default both"),
]
Model = Annotated[
    Literal["resunet", "resunet_ensemble", "unet_doury", "deepesd"],
    typer.Option("--model", help="resunet_ensemble: ten members; anything else by --set"),
]
Orography = Annotated[bool, typer.Option("--orography", help="give the network the fine orography; an entry of its own, NAME-orog")]
Templates = Annotated[
    Path | None,
    typer.Option("--templates", metavar="DIR", help="the benchmark's templates; default DIR/templates, else as the targets"),
]
Work = Annotated[Path | None, typer.Option("--workspace", metavar="DIR", help="pairs, runs and predictions; default SUBMISSION-work")]
Worked = Annotated[Path, typer.Argument(metavar="WORKSPACE", help="workspace of mlbench run: SUBMISSION-work")]
Scores = Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="folder of the scores; default WORKSPACE/scores")]
Seasons = Annotated[list[str] | None, typer.Option("--season", help="repeatable; default all five")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="new folder for the files")]
Cells = Annotated[int, typer.Option(min=16, help="target cells along a side; the benchmark has 128")]
Years = Annotated[int, typer.Option(min=4, max=20, help="years of each period, the last ones; the benchmark has 20")]
Days = Annotated[int, typer.Option(min=2, max=31, help="days of each month, the first ones; 31: all")]
Seed = Annotated[int, typer.Option(help="another seed, another world")]


@app.command("run")
@stage("mlbench run")
def run(
    directory: Bench, out: Out, domains: Domains = None, experiments: Experiments = None, model: Model = "resunet",
    orography: Orography = False, templates: Templates = None, workspace: Work = None, device: Device = "auto", overrides: Set = None,
    overwrite: Overwrite = False, dry_run: DryRun = False, force_unlock: ForceUnlock = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Pairs, both trainings of each domain, predictions for every test file, checked and zipped.  -> SUBMISSION.zip, SUBMISSION.json"""
    from downscale.mlbench.entry import Choices
    from downscale.mlbench.run import run_benchmark

    choices = Choices(
        model, orography, tuple(domains or ()), tuple(experiments or ()), tuple(overrides or ()), templates, device
    )  # fmt: skip
    return run_benchmark(
        directory, out, choices, workspace=workspace, overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, progress=progress
    )


@app.command("score")
@stage("mlbench score")
def score(
    workspace: Worked, output: Scores = None, seasons: Seasons = None, overwrite: Overwrite = False, *, progress: ProgressLine
) -> dict[str, Any]:
    """The benchmark's diagnostics on the held-out training years.  -> WORKSPACE/scores"""
    from downscale.evaluate.mlbench.maps import SEASONS
    from downscale.mlbench.score import score_benchmark

    return score_benchmark(workspace, output, seasons=seasons or tuple(SEASONS), overwrite=overwrite)


@app.command("fixture")
@stage("mlbench fixture")
def fixture(
    directory: Folder, domains: Domains = None, cells: Cells = 128, years: Years = 4, days: Days = 5, seed: Seed = 0,
    overwrite: Overwrite = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Write a virtual ML-Bench with the real one's names, dimensions and oddities, from the virtual climate."""
    from downscale.mlbench.fixture import Extent, write_fixture

    return write_fixture(
        directory, domains=domains or (), extent=Extent(cells, years, days), seed=seed, overwrite=overwrite, progress=progress
    )
