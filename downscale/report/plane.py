"""Maps in the grid's own plane: rows and columns as they are, the coast from the land fraction, meridians and parallels across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from downscale.report.colours import diverging, sequential
from downscale.report.figure import GREY, INK, new_figure

PANEL_INCHES = 2.35
MAX_STIPPLES = 40


@dataclass(frozen=True)
class Panel:
    """One map: title, values (y, x), the scale it shares with others ("field", "change" or "difference"), and where it is significant."""

    title: str
    values: np.ndarray
    scale: str
    significant: np.ndarray | None = None


@dataclass(frozen=True)
class Scale:
    """Colours and the values at their ends; a diverging scale is symmetric about zero; ``extend``: which ends are cut, for the bar."""

    colours: str | Colormap
    low: float
    high: float
    diverging: bool
    extend: Literal["neither", "both", "min", "max"] = "both"


def draw_panels(grid: xr.Dataset, rows: Sequence[Sequence[Panel | None]], variable: str, labels: Mapping[str, str]) -> Figure:
    """Rows of maps (None: an empty place); a scale (with its colour bar label) is shared by all panels that name it."""
    columns = max(len(row) for row in rows)
    panels = [panel for row in rows for panel in row if panel is not None]
    ny, nx = panels[0].values.shape
    aspect = float(grid.attrs.get("spacing_y_km", 1.0)) / max(float(grid.attrs.get("spacing_x_km", 1.0)), 1e-9)
    height = min(max(PANEL_INCHES * aspect * ny / nx, 1.2), 3.6)
    figure = new_figure(PANEL_INCHES * columns + 0.9, (height + 0.3) * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    scales = {name: make_scale([panel.values for panel in panels if panel.scale == name], name, variable) for name in labels}
    for row_axes, row in zip(axes, rows, strict=True):
        images, shown = [], ""
        for axis, panel in zip_longest(row_axes, row):
            if panel is None:
                axis.set_axis_off()
            else:
                images.append(_draw(axis, panel, scales[panel.scale], aspect, grid))
                shown = panel.scale
        bar = figure.colorbar(images[0], ax=list(row_axes), shrink=0.85, pad=0.01, extend=scales[shown].extend, aspect=18)
        bar.set_label(labels[shown])
        bar.outline.set_visible(False)
    return figure


def _draw(axis: Axes, panel: Panel, scale: Scale, aspect: float, grid: xr.Dataset) -> AxesImage:
    image = axis.imshow(
        panel.values, origin="lower", cmap=scale.colours, vmin=scale.low, vmax=scale.high, aspect=aspect, interpolation="nearest"
    )
    axis.set_title(panel.title, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("#e4e7ea")
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_color(GREY)
    if panel.values.shape == grid.get("lat", xr.DataArray()).shape:
        draw_graticule(axis, grid)
        draw_coast(axis, grid)
    if panel.significant is not None:
        draw_stipples(axis, panel.significant)
    return image


def draw_coast(axis: Axes, grid: xr.Dataset) -> None:
    """The 50 % line of the land fraction, where there is one."""
    if "sftlf" in grid:
        land = np.asarray(grid["sftlf"].values)
        if np.nanmin(land) < 50 < np.nanmax(land):
            axis.contour(land, levels=[50.0], colors=[INK], linewidths=0.8)


def draw_graticule(axis: Axes, grid: xr.Dataset) -> None:
    """Three or four thin meridians and parallels, named where they leave the map at the left and at the bottom."""
    lat, lon = np.asarray(grid["lat"].values), unbroken(np.asarray(grid["lon"].values))
    for values, names, along in ((lat, ("N", "S"), 0), (lon, ("E", "W"), 1)):
        levels = _levels(values)
        if not levels:
            continue
        axis.contour(values, levels=levels, colors=[GREY], linewidths=0.35, alpha=0.6, linestyles="-")
        edge = values[:, 0] if along == 0 else values[0]
        order = np.argsort(edge)
        places = [float(np.interp(level, edge[order], order)) for level in levels if edge.min() <= level <= edge.max()]
        shown = [_degrees(level, names) for level in levels if edge.min() <= level <= edge.max()]
        (axis.set_yticks if along == 0 else axis.set_xticks)(places, shown, fontsize=6, color=GREY)
    axis.tick_params(length=1.5, width=0.4, pad=1)


def unbroken(lon: np.ndarray) -> np.ndarray:
    """Longitudes without a jump of 360 degrees inside the domain."""
    centre = np.rad2deg(np.angle(np.exp(1j * np.deg2rad(lon)).mean()))
    return np.asarray((lon - centre + 180.0) % 360.0 - 180.0 + centre)


def _levels(values: np.ndarray) -> list[float]:
    if not np.isfinite(values).all() or np.ptp(values) == 0 or min(values.shape) < 2:
        return []
    low, high = float(values.min()), float(values.max())
    return [float(one) for one in MaxNLocator(4, steps=[1, 2, 3, 5, 10]).tick_values(low, high) if low < one < high]


def _degrees(value: float, names: tuple[str, str]) -> str:
    value = (value + 180.0) % 360.0 - 180.0 if names[0] == "E" else value
    return f"{abs(value):g}°{'' if value == 0 else names[int(value < 0)]}"


def draw_stipples(axis: Axes, significant: np.ndarray) -> None:
    """A dot on significant cells; on fine grids on every n-th cell only, so that dots stay apart."""
    step = max(1, int(np.ceil(max(significant.shape) / MAX_STIPPLES)))
    thinned = np.zeros(significant.shape, dtype=bool)
    thinned[step // 2 :: step, step // 2 :: step] = True
    y, x = np.nonzero(thinned & (np.nan_to_num(significant.astype(float)) > 0))
    axis.scatter(x, y, s=1.6, color=INK, linewidths=0)


def make_scale(fields: Sequence[np.ndarray], name: str, variable: str) -> Scale:
    """The scale of fields that share it: 0.5 % to 99.5 % of their values, symmetric about zero for differences."""
    values = np.concatenate([field[np.isfinite(field)] for field in fields]) if fields else np.zeros(0)
    low, high = (float(np.quantile(values, q)) for q in (0.005, 0.995)) if values.size else (0.0, 1.0)
    if name == "difference" or (name == "change" and low < 0 < high):
        reach = max(abs(low), abs(high)) or 1.0
        return Scale(diverging(variable), -reach, reach, True, _cut(values, -reach, reach))
    high = high if high > low else low + 1.0
    return Scale(sequential(variable), low, high, False, _cut(values, low, high))


def _cut(values: np.ndarray, low: float, high: float) -> Literal["neither", "both", "min", "max"]:
    below, above = bool((values < low).any()), bool((values > high).any())
    return "both" if below and above else "min" if below else "max" if above else "neither"
