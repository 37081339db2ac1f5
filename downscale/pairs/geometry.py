"""Where everything lies: the coarse box, the fine window, and the weights that make RCMu."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from downscale.cf.open import open_grid
from downscale.config.schema import CoarsenTarget, DomainConfig, DomainTarget, GridFileTarget, ResolutionTarget, UpscaleConfig
from downscale.errors import ConfigError, InputDataError
from downscale.grid.cells import Edges
from downscale.grid.domain import (
    across_seam,
    box_slices,
    cells_inside,
    coarsen_grid,
    covered_box,
    inside_box,
    largest_rectangle,
    regular_grid,
    require_covered,
    touched_box,
)
from downscale.grid.domains import domain_grid
from downscale.grid.engines import make_weights
from downscale.grid.grid import Grid, take_notes
from downscale.grid.weights import Weights

log = logging.getLogger(__name__)
Window = tuple[slice, slice]
Cells = tuple[slice, slice | np.ndarray]


@dataclass(frozen=True)
class Geometry:
    """The grids of an experiment.

    Attributes:
        rcm: the grid of the fine files (of the RCM, or of observations).
        inner: (y, x) slices of ``rcm`` without the relaxation zone.
        window: (y, x) slices of ``rcm`` that are the target.
        coarse, fine: the two grids.
        upscale: weights from ``rcm`` cropped to ``inner``, to ``coarse``; None when nothing is upscaled (observations).
        notes: how the boxes came about.
        weights_file: SHA-256 of the weight file, where one is used.
    """

    rcm: Grid
    inner: Window
    window: Window
    coarse: Grid
    fine: Grid
    upscale: Weights | None
    notes: list[str] = field(default_factory=list)
    weights_file: str = ""


def resolve_geometry(rcm: Grid, gcm: Grid | None, domain: DomainConfig, upscale: UpscaleConfig, *, upscaled: bool = True) -> Geometry:
    """Boxes, grids and upscaling weights.

    Args:
        rcm: grid of the fine files.
        gcm: grid of the source that ``upscale.to`` names, if it names one.
        domain, upscale: config sections.
        upscaled: whether fine fields become predictors; if not (observations), the coarse box need not be covered by them: it is the
            coarse cells that touch them.

    Raises:
        InputDataError: the RCM does not cover the coarse box, or the coarse box not the target (G09, after cropping);
            corners of a grid cannot be known (G08); the weight file is for other grids.
        ConfigError: a box outside its grid, or one that makes no sense with the method; no such domain.
        EnvironmentMissingError: the engine is not installed.
    """
    notes: list[str] = []
    inner = _inner(rcm, domain.relaxation_cells)
    source = rcm.crop(*inner)
    if isinstance(upscale.to, CoarsenTarget):
        if domain.coarse_box is not None:
            raise ConfigError(
                "domain.coarse_box has no meaning with upscale.to: {coarsen: N}", where="domain.coarse_box", hint="use domain.fine_box"
            )
        merged = coarsen_grid(source, upscale.to.coarsen)
        coarse: Grid = merged[0]
        weights: Weights | None = merged[1]
    else:
        target = _target_grid(upscale.to, gcm, source)
        if isinstance(upscale.to, GridFileTarget):
            take_notes(target, f"grid file {upscale.to.grid_file}", notes)
        window, weights = _coarse_window(rcm, inner, target, domain.coarse_box, upscale, notes, upscaled=upscaled)
        coarse = target.crop(*window)
        if weights is not None:
            require_covered(weights.coverage, f"the coarse box ({coarse.summary}) by the RCM without its relaxation zone")
    inside = _nested(rcm, inner, coarse, upscale.to.coarsen) if isinstance(upscale.to, CoarsenTarget) else None
    y, x = _fine_window(rcm, inner, coarse, domain.fine_box, upscale.edges, notes, inside)
    fine = rcm.crop(y, x)
    notes.append(f"coarse box {coarse.shape[0]} x {coarse.shape[1]}, target {fine.shape[0]} x {fine.shape[1]} fine cells")
    for note in notes:
        log.info("%s", note)
    return Geometry(rcm, inner, (y, x), coarse, fine, weights, notes, _sha256(upscale.weights_file))


def _inner(rcm: Grid, cells: int) -> Window:
    ny, nx = rcm.shape
    if 2 * cells >= min(ny, nx):
        raise ConfigError(f"domain.relaxation_cells: {cells} at each side leave nothing of {ny} x {nx} cells", hint="give a smaller number")
    return slice(cells, ny - cells), slice(cells, nx - cells)


def _sha256(path: str | None) -> str:
    return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _target_grid(to: str | GridFileTarget | ResolutionTarget | DomainTarget, gcm: Grid | None, source: Grid) -> Grid:
    if isinstance(to, GridFileTarget):
        return Grid.from_dataset(open_grid(Path(to.grid_file)))
    if isinstance(to, ResolutionTarget):
        return regular_grid(to.resolution, source)
    if isinstance(to, DomainTarget):
        return domain_grid(to.domain)
    if gcm is None:
        raise ConfigError(f"upscale.to: '{to}' has no grid", hint="name a gcm source")
    return gcm


def _coarse_window(
    rcm: Grid, inner: Window, target: Grid, box: list[float] | None, upscale: UpscaleConfig, notes: list[str], *, upscaled: bool
) -> tuple[Cells, Weights | None]:
    """Rows and columns of the target grid that are the coarse box, and the weights to them from the RCM without its relaxation zone."""
    if box is not None:
        window = box_slices(target, *box)
        return window, _weights(rcm, inner, target, window, upscale) if upscaled else None
    weights = _weights(rcm, inner, target, (slice(None), slice(None)), upscale)
    window = across_seam(covered_box if upscaled else touched_box, weights.coverage, target)
    if target.crop(*window).shape != target.shape:
        ny, nx = target.shape
        what = "the largest rectangle that the RCM covers fully" if upscaled else "the cells that touch the observations"
        notes.append(f"coarse grid cropped from {ny} x {nx} cells to {what}")
    return window, weights.crop(target=window) if upscaled else None


def _weights(rcm: Grid, inner: Window, target: Grid, window: Cells, upscale: UpscaleConfig) -> Weights:
    """Weights between the parts of the two grids; those of a file are for the whole grids and are cut."""
    if upscale.weights_file is not None:
        whole = make_weights(rcm, target, engine=upscale.engine, edges=upscale.edges, weights_file=Path(upscale.weights_file))
        return whole.crop(source=inner, target=window)
    return make_weights(rcm.crop(*inner), target.crop(*window), engine=upscale.engine, edges=upscale.edges)


def _nested(rcm: Grid, inner: Window, coarse: Grid, n: int) -> np.ndarray:
    """True for the cells that blocks of n x n were made of: merged cells have straight edges, so geometry would not say."""
    inside = np.zeros(rcm.shape, bool)
    inside[inner][: n * coarse.shape[0], : n * coarse.shape[1]] = True
    return inside


def _fine_window(
    rcm: Grid, inner: Window, coarse: Grid, box: list[int] | None, edges: Edges, notes: list[str], inside: np.ndarray | None
) -> Window:
    if box is None:
        y, x = inside_box(rcm.crop(*inner), coarse, edges) if inside is None else largest_rectangle(inside[inner])
        window = _shifted(y, inner[0].start), _shifted(x, inner[1].start)
        rows, columns = (f"{cells.start}..{cells.stop - 1}" for cells in window)
        notes.append(f"target: fine cells y {rows}, x {columns} lie inside the coarse box")
        return window
    x_start, x_stop, y_start, y_stop = box
    if not (0 <= x_start < x_stop <= rcm.shape[1] and 0 <= y_start < y_stop <= rcm.shape[0]):
        raise ConfigError(
            f"domain.fine_box {box} is not inside the RCM grid of {rcm.shape[1]} x {rcm.shape[0]} cells (x by y)",
            hint="give [x_start, x_stop, y_start, y_stop]",
        )
    window = slice(y_start, y_stop), slice(x_start, x_stop)
    outside = 1.0 - float(np.mean(cells_inside(rcm.crop(*window), coarse, edges) if inside is None else inside[window]))
    if outside > 0:
        raise InputDataError(
            f"{outside:.1%} of the target's cells lie outside the coarse box",
            where=f"domain.fine_box {box}; coarse box {coarse.summary}",
            hint="give a smaller fine_box or a larger coarse_box",
        )
    return window


def _shifted(cells: slice, by: int) -> slice:
    return slice(cells.start + by, cells.stop + by)
