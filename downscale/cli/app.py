"""All commands in one place. Heavy imports happen inside them, so that --help answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from downscale import __version__
from downscale.cli import explain, few_shot, judging, looking, mlbench, remapping, stages, starting, status, submit
from downscale.hpc.startup import begin, settle

app = typer.Typer(
    name="downscale",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Emulate regional climate models, and learn where the emulator may be trusted.

A new experiment, in order: **init** (a config from your files), **check** (before a long job), **prepare** (files to pairs),
**train**, **apply**, **evaluate** (scores and report). `downscale demo` shows all of it on sample data in a few minutes.
Each stage reads what the one before left in the workspace; run the same command again and it finishes or says that nothing is left to do.

Exit codes: 0 done, 1 internal error or a training that diverged, 2 usage or config, 3 output exists, 4 input data rejected, 5 missing
dependency or a newer artefact, 7 more days far from the training days than apply.ood allows, 75 stopped by a signal with everything saved
(run the same command again).
""",
)
config_app = typer.Typer(no_args_is_help=True, help="The config's own documentation.")
config_app.command("schema")(looking.config_schema)

app.command("demo")(starting.demo)
app.command("sample-data")(starting.sample_data)
app.command("init")(starting.init)
app.command("check")(starting.check)
app.command("prepare")(stages.prepare)
app.command("train")(stages.train)
app.command("few-shot")(few_shot.few_shot)
app.command("apply", context_settings={"allow_extra_args": True})(stages.apply)
app.command("evaluate", cls=judging.ManyFiles)(stages.evaluate)
app.command("explain")(explain.explain)
app.command("report")(stages.report)
app.command("weights")(remapping.weights)
app.command("regrid")(remapping.regrid)
app.command("submit")(submit.submit)
app.command("status")(status.status)
app.command("cancel")(submit.cancel)
app.command("inspect")(looking.inspect)
app.command("doctor")(looking.doctor)
app.add_typer(mlbench.app, name="mlbench")
app.add_typer(config_app, name="config")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    """Handle options that come before a command."""
    if version:
        typer.echo(f"downscale {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the ``downscale`` command."""
    begin()
    try:
        app()
    finally:
        settle()
