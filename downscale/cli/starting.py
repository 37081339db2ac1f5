"""What comes before the stages: sample data, the demo, a config from files, and a look at everything before a long job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.options import ConfigPath, Overwrite, Set, Workers, stage

DemoFolder = Annotated[Path, typer.Argument(metavar="[DIR]", help="where data, results and report go")]
Quick = Annotated[bool, typer.Option("--quick", help="the tiny world: under a minute, no skill to speak of")]
SampleFolder = Annotated[Path, typer.Argument(metavar="DIR", help="new folder for the files")]
Gcms = Annotated[int, typer.Option(min=1, max=4, help="number of GCM and RCM runs: A, B, C, D")]
Years = Annotated[
    list[str] | None, typer.Option("--years", metavar="FIRST-LAST", help="a span of years; repeatable; default 1995-2000 and 2090-2095")
]
Size = Annotated[
    Literal["tiny", "small", "mlbench"], typer.Option(help="small: 8 x 8 coarse cells to 32 x 32; mlbench: 16 x 16 to 128 x 128")
]
WorldSeed = Annotated[int, typer.Option(help="another seed, another world")]
Writers = Annotated[int, typer.Option("--workers", min=1, help="processes that write files")]
Channels = Annotated[list[str] | None, typer.Option("--channel", metavar="NAME", help="only this one, e.g. zg500 or pr; repeatable")]
Packed = Annotated[bool, typer.Option("--packed", help="int16 with scale and offset: half the bytes")]
Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="files, globs or folders of all runs, fixed fields included")]
NewConfig = Annotated[Path, typer.Option("-o", "--output", metavar="YAML", help="the config to write")]
Checksums = Annotated[
    Path | None, typer.Option("--verify", metavar="SHA256SUMS", help="also compare the files with this list (or an ESGF wget script)")
]


@stage("demo")
def demo(directory: DemoFolder = Path("demo"), quick: Quick = False, *, progress: ProgressLine) -> dict[str, Any]:
    """The whole chain on a virtual climate, with a report at the end (about four minutes on two cores)."""
    from downscale.cli.demo import run_demo

    return run_demo(directory, quick=quick, progress=progress)


@stage("sample-data")
def sample_data(
    directory: SampleFolder, gcms: Gcms = 2, years: Years = None, size: Size = "small", seed: WorldSeed = 0, workers: Writers = 2,
    channels: Channels = None, packed: Packed = False, overwrite: Overwrite = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Write a virtual climate: GCM and RCM files whose truth is known (truth.json)."""
    from downscale.cli.demo import parse_years
    from downscale.virtual.stage import write_sample_data

    summary = write_sample_data(
        directory, gcms=gcms, years=parse_years(years), size=size, seed=seed, channels=channels, packed=packed, workers=workers,
        overwrite=overwrite, progress=progress,
    )  # fmt: skip
    return {"artefact": summary.pop("directory"), "files": summary["files"], "MB": round(summary["bytes"] / 1e6, 1),
            "truth": "truth.json states every parameter and the irreducible error of each target"}  # fmt: skip


@stage("init")
def init(
    files: Files, output: NewConfig = Path("config.yaml"), workers: Workers = None, overwrite: Overwrite = False, *, progress: ProgressLine
) -> dict[str, Any]:
    """A commented config from the files found: runs, roles, drivers, variables, split. Reads headers only."""
    from downscale.cli.init import write_config

    return write_config(files, output, workers=workers, overwrite=overwrite, progress=progress)


@stage("check")
def check(
    config: ConfigPath, overrides: Set = None, checksums: Checksums = None, workers: Workers = None, *, progress: ProgressLine
) -> dict[str, Any]:
    """Before a long job: open every input, build the model, run one batch, estimate memory, disk and time. Writes nothing."""
    from downscale.cli.check import check_experiment

    return check_experiment(config, overrides or [], checksums=checksums, workers=workers, progress=progress)
