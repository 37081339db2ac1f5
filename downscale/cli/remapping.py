"""Weights and regridding for everybody: no config, any files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.options import Overwrite, stage

Source = Annotated[
    str, typer.Argument(metavar="SOURCE.nc", help="file with the grid to come from, or a CORDEX domain (EUR-12, EUR-44 ...)")
]
Target = Annotated[str, typer.Argument(metavar="TARGET.nc|DOMAIN", help="file with the grid to go to, or a CORDEX domain")]
WeightsOut = Annotated[Path, typer.Option("-o", "--output", metavar="WEIGHTS.nc", help="the weight file to write")]
MethodOf = Annotated[
    Literal["conservative", "bilinear", "nearest"], typer.Option("--method", help="of the weights; regrid: where their file does not say")
]
EdgesOf = Annotated[
    Literal["great_circle", "parallels"], typer.Option("--edges", help="great_circle: as ESMF; parallels: edges along a latitude as CDO")
]
NormOf = Annotated[
    Literal["fracarea", "destarea"], typer.Option("--norm", help="rows add up to 1 (fracarea) or to the covered fraction (destarea)")
]
EngineOf = Annotated[
    Literal["auto", "builtin", "xesmf", "file"],
    typer.Option("--engine", help="auto: xesmf where installed, else builtin; file: --weights-file"),
]
From = Annotated[Path | None, typer.Option("--weights-file", metavar="FILE", help="with --engine file: weights of ESMF, xESMF or CDO")]
LayoutOf = Annotated[Literal["esmf", "scrip"], typer.Option("--layout", help="esmf: read by xESMF; scrip: read by CDO")]
Fields = Annotated[list[str], typer.Argument(metavar="FILE...", help="files, globs or folders; periods that follow one another are joined")]
WeightsIn = Annotated[Path, typer.Option("-w", "--weights", metavar="WEIGHTS.nc", help="of downscale weights, ESMF, xESMF or CDO")]
GridFile = Annotated[
    str | None, typer.Option("--target", metavar="GRID.nc|DOMAIN", help="target grid, where the weight file holds none (xESMF, CDO)")
]
NormAsked = Annotated[
    Literal["fracarea", "destarea"] | None,
    typer.Option(
        "--norm", help="mean over the valid part (fracarea) or integral by cell area (destarea); default: as the weight file says"
    ),
]
MinValid = Annotated[float, typer.Option(min=0.0, max=1.0, help="a cell with less valid area is missing; 0: any will do")]
Out = Annotated[Path, typer.Option("-o", "--output", metavar="OUT.nc|OUT.zarr", help="the output")]


@stage("weights")
def weights(
    source: Source, target: Target, output: WeightsOut, method: MethodOf = "conservative", edges: EdgesOf = "great_circle",
    norm: NormOf = "fracarea", engine: EngineOf = "auto", weights_file: From = None, layout: LayoutOf = "esmf",
    overwrite: Overwrite = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Weights from one grid to another, in a file that xESMF (or CDO) reads; or theirs, checked and rewritten."""
    from downscale.pairs.remap import make_weight_file

    return make_weight_file(
        source, target, output, method=method, edges=edges, norm=norm, engine=engine, weights_file=weights_file, layout=layout,
        overwrite=overwrite,
    )  # fmt: skip


@stage("regrid")
def regrid(
    files: Fields, weights_file: WeightsIn, output: Out, target: GridFile = None, norm: NormAsked = None, method: MethodOf = "conservative",
    min_valid_fraction: MinValid = 0.5, overwrite: Overwrite = False, *, progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """Every gridded variable of some files on another grid, by weights of our own, ESMF, xESMF or CDO."""
    from downscale.pairs.remap import remap_files

    return remap_files(
        files, weights_file, output, target=target, norm=norm, method=method, min_valid_fraction=min_valid_fraction, overwrite=overwrite,
        progress=progress,
    )  # fmt: skip
