"""Weights by any engine behind one call: built in, xESMF, or a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, get_args

from downscale.errors import ConfigError
from downscale.grid.cells import Edges
from downscale.grid.conservative import conservative_weights
from downscale.grid.foreign import file_weights
from downscale.grid.grid import Grid
from downscale.grid.interpolate import bilinear_weights
from downscale.grid.nearest import nearest_weights
from downscale.grid.weight_cache import remembered
from downscale.grid.weights import Weights
from downscale.grid.xesmf_engine import has_xesmf, xesmf_weights

log = logging.getLogger(__name__)
Method = Literal["conservative", "bilinear", "nearest"]
Engine = Literal["auto", "builtin", "xesmf", "file"]


def make_weights(
    source: Grid,
    target: Grid,
    *,
    method: Method = "conservative",
    engine: Engine = "auto",
    edges: Edges = "great_circle",
    weights_file: Path | None = None,
) -> Weights:
    """Weights from one grid to another, the same object whatever makes them; kept on disk for the next run.

    Args:
        source, target: the grids.
        method: conservative (first order; Jones 1999), bilinear (in the source's own axes), nearest (great circle).
        engine: builtin; xesmf (needs esmpy, conda only); file (weights of ESMF, xESMF, CDO or our own); auto: xesmf where it is
            installed and knows the edges asked for, else builtin.
        edges: of conservative weights: great_circle, as ESMF takes every edge; parallels, as CDO takes those along a latitude. A file
            has its own.
        weights_file: with engine file.

    Raises:
        InputDataError: corners or axes that the method needs are not known (G07, G08), or the file is for other grids.
        ConfigError: options that exclude one another.
        EnvironmentMissingError: xESMF is asked for and not installed.
    """
    _require_sense(method, engine, edges, weights_file)
    if engine == "file" and weights_file is not None:
        return file_weights(
            weights_file, source, target, method=method, coverage=lambda its: _builtin(source, target, method, its).coverage
        )
    if engine == "auto":
        engine = "xesmf" if edges == "great_circle" and has_xesmf() else "builtin"
        log.info("weights by engine %s", engine)
    if engine == "xesmf":
        return remembered(source, target, method, edges, "xesmf", lambda: xesmf_weights(source, target, method))
    return _builtin(source, target, method, edges)


def _builtin(source: Grid, target: Grid, method: Method, edges: Edges) -> Weights:
    if method == "bilinear":
        return bilinear_weights(source, target)
    if method == "nearest":
        return nearest_weights(source, target)
    return remembered(source, target, method, edges, "builtin", lambda: conservative_weights(source, target, edges=edges))


def _require_sense(method: str, engine: str, edges: str, weights_file: Path | None) -> None:
    for name, value, known in (("method", method, Method), ("engine", engine, Engine), ("edges", edges, Edges)):
        if value not in get_args(known):
            raise ConfigError(f"unknown {name} '{value}'", hint=f"use one of: {', '.join(get_args(known))}")
    if (engine == "file") != (weights_file is not None):
        raise ConfigError("engine file and a weight file go together", hint="give both, or neither")
    if edges == "parallels" and engine in ("xesmf", "file"):
        why = "ESMF takes every edge as a great circle" if engine == "xesmf" else "weights of a file have the edges they were made with"
        raise ConfigError(why, hint="use engine builtin for edges: parallels")
    if edges == "parallels" and method != "conservative":
        raise ConfigError(f"edges have no meaning for {method} weights", hint="leave edges out")
