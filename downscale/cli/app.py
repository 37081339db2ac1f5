"""The commands. Heavy imports happen inside them, so that --help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from downscale import __version__
from downscale.cli.console import Options, ProgressLine, run_stage

app = typer.Typer(
    name="downscale",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Emulate regional climate models, and learn where the emulator may be trusted.

A new experiment, in order: **prepare** (files to pairs), **train**, **apply**, **evaluate** (scores and report).
`downscale demo` shows all of it on sample data in a few minutes. Each stage reads what the one before left in the workspace;
run the same command again and it finishes or says that nothing is left to do.

Exit codes: 0 done, 1 internal error, 2 usage or config, 3 output exists, 4 input data rejected, 5 missing dependency or a newer artefact,
75 stopped by a signal with everything saved (run the same command again).
""",
)
config_app = typer.Typer(no_args_is_help=True, help="The config's own documentation.")
app.add_typer(config_app, name="config")

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="experiment YAML")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="override a config value; repeatable")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace an existing result of another recipe")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and say what would be done; write nothing")]
ForceUnlock = Annotated[bool, typer.Option("--force-unlock", help="take over the lock of a job that is gone")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="auto: CUDA when there is a GPU")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="debug log, tracebacks, all findings")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="warnings and errors only")]
LogFormat = Annotated[Literal["text", "json"], typer.Option("--log-format", help="form of the log on stderr")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout: stage, artefact, seconds, summary")]
RunName = Annotated[str, typer.Option("--run", metavar="RUN", help="a name in the workspace or a path")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    """Handle options that come before a command."""
    if version:
        typer.echo(f"downscale {__version__}")
        raise typer.Exit


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="where data, results and report go")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="the tiny world: under a minute, no skill to speak of")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
    json_output: Json = False,
) -> None:
    """The whole chain on a virtual climate, with a report at the end (about four minutes on two cores)."""

    def work(progress: ProgressLine) -> dict[str, Any]:
        from downscale.cli.demo import run_demo

        return run_demo(directory, quick=quick, progress=progress)

    run_stage("demo", Options(verbose, quiet, log_format, json_output), work)


@app.command("sample-data")
def sample_data(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="new folder for the files")],
    gcms: Annotated[int, typer.Option(min=1, max=4, help="number of GCM and RCM runs: A, B, C, D")] = 2,
    years: Annotated[
        list[str] | None, typer.Option("--years", metavar="FIRST-LAST", help="a span of years; repeatable; default 1995-2000 and 2090-2095")
    ] = None,
    size: Annotated[
        Literal["tiny", "small", "mlbench"], typer.Option(help="small: 8 x 8 coarse cells to 32 x 32; mlbench: 16 x 16 to 128 x 128")
    ] = "small",
    seed: Annotated[int, typer.Option(help="another seed, another world")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes that write files")] = 2,
    channels: Annotated[
        list[str] | None, typer.Option("--channel", metavar="NAME", help="only this one, e.g. zg500 or pr; repeatable")
    ] = None,
    packed: Annotated[bool, typer.Option("--packed", help="int16 with scale and offset: half the bytes")] = False,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
    json_output: Json = False,
) -> None:
    """Write a virtual climate: GCM and RCM files whose truth is known (truth.json)."""

    def work(progress: ProgressLine) -> dict[str, Any]:
        from downscale.cli.demo import parse_years
        from downscale.virtual.stage import write_sample_data

        summary = write_sample_data(
            directory, gcms=gcms, years=parse_years(years), size=size, seed=seed, channels=channels, packed=packed, workers=workers,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
        return {"artefact": summary.pop("directory"), "files": summary["files"], "MB": round(summary["bytes"] / 1e6, 1),
                "truth": "truth.json states every parameter and the irreducible error of each target"}  # fmt: skip

    run_stage("sample-data", Options(verbose, quiet, log_format, json_output), work)


@app.command()
def prepare(
    config: ConfigPath,
    overrides: Set = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    force_unlock: ForceUnlock = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
    json_output: Json = False,
) -> None:
    """Files to pairs: upscale the RCM to RCMu, bring GCMs to the same grid, pair day by day.  -> WORKSPACE/pairs.zarr"""

    def work(progress: ProgressLine) -> dict[str, Any]:
        from downscale.config.load import load_config
        from downscale.pairs.build import build_pairs

        return build_pairs(
            load_config(config, overrides or ()), overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, progress=progress
        )

    run_stage("prepare", Options(verbose, quiet, log_format, json_output), work)


@app.command()
def train(
    config: ConfigPath,
    mode: Annotated[
        Literal["pretrain", "finetune", "few-shot"], typer.Option(help="few-shot: fine-tune on a few whole years")
    ] = "pretrain",
    source_run: Annotated[str | None, typer.Option("--from", metavar="RUN", help="run to go on from (finetune, few-shot)")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="whole years for few-shot")] = None,
    seed: Annotated[int | None, typer.Option(help="replaces train.seed")] = None,
    name: Annotated[str | None, typer.Option(help="name of the run")] = None,
    device: Device = "auto",
    overrides: Set = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    force_unlock: ForceUnlock = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
    json_output: Json = False,
) -> None:
    """Learn the emulator and its baselines from pairs.  -> WORKSPACE/runs/RUN"""

    def work(progress: ProgressLine) -> dict[str, Any]:
        from downscale.config.load import load_config
        from downscale.training.modes import train_run

        return train_run(
            load_config(config, overrides or ()),
            mode=mode,
            source_run=source_run,
            shots=shots,
            seed=seed,
            name=name,
            device=device,
            overwrite=overwrite,
            dry_run=dry_run,
            force_unlock=force_unlock,
            progress=progress,
        )

    run_stage("train", Options(verbose, quiet, log_format, json_output), work)


@app.command(context_settings={"allow_extra_args": True})
def apply(
    context: typer.Context,
    what: Annotated[Path, typer.Argument(metavar="CONFIG|RUN", help="experiment YAML (with --run), or a run folder (with --input)")],
    run: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="RUN", help="with CONFIG: name in the workspace or path; repeatable; default all runs"),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", metavar="NAME", help="with CONFIG: only these sources; repeatable")
    ] = None,
    inputs: Annotated[
        list[Path] | None, typer.Option("--input", metavar="FILE", help="with RUN: NetCDF files of a GCM or RCM; one or many")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="with RUN: folder for the predictions")] = None,
    forcings: Annotated[
        Path | None, typer.Option("--forcings", metavar="CSV", help="with RUN: forcings of the scenario, where the run uses them")
    ] = None,
    assume_units: Annotated[
        list[str] | None, typer.Option("--assume-units", metavar="VAR=UNITS", help="with RUN: units that replace the files'; repeatable")
    ] = None,
    device: Device = "auto",
    overrides: Set = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    force_unlock: ForceUnlock = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
    json_output: Json = False,
) -> None:
    """Emulate: RCMu or a GCM in, fine CF NetCDF out.  -> WORKSPACE/predictions/... or the folder of -o"""

    def work(progress: ProgressLine) -> dict[str, Any]:
        from downscale.cli.apply import apply_either

        return apply_either(
            what,
            run or [],
            source or [],
            [*(inputs or []), *map(Path, context.args)],
            output,
            forcings,
            assume_units or [],
            overrides or [],
            device=device,
            overwrite=overwrite,
            dry_run=dry_run,
            force_unlock=force_unlock,
            progress=progress,
        )

    run_stage("apply", Options(verbose, quiet, log_format, json_output), work)


@app.command()
def evaluate(
    config: ConfigPath,
    overrides: Set = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    force_unlock: ForceUnlock = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
    json_output: Json = False,
) -> None:
    """Judge all predictions on the test days and write the report.  -> WORKSPACE/scores, WORKSPACE/report/index.html"""

    def work(progress: ProgressLine) -> dict[str, Any]:
        from downscale.cli.evaluate import evaluate_and_report

        return evaluate_and_report(
            config, overrides or [], overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, progress=progress
        )

    run_stage("evaluate", Options(verbose, quiet, log_format, json_output), work)


@app.command()
def report(
    config: ConfigPath,
    overrides: Set = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    log_format: LogFormat = "text",
    json_output: Json = False,
) -> None:
    """Draw the report again from existing scores.  -> WORKSPACE/report/index.html"""

    def work(progress: ProgressLine) -> dict[str, Any]:
        from downscale.config.load import load_config
        from downscale.report.html import make_report

        return {"artefact": make_report(load_config(config, overrides or ()), progress=progress)}

    run_stage("report", Options(verbose, quiet, log_format, json_output), work)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the config, for editors and other programs."""
    import json

    from downscale.config.schema import ExperimentConfig

    typer.echo(json.dumps(ExperimentConfig.model_json_schema(), indent=2))


def main() -> None:
    """Entry point of the ``downscale`` command."""
    app()
