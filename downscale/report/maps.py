"""Maps in the grid's own plane, rows and columns as they are, with the coast from the land fraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from downscale.evaluate.scorecard import TRUTH
from downscale.report.figure import GREY, INK, Picture, new_figure, save_netcdf, to_png
from downscale.report.findings import CaseFacts, Findings, RunFacts
from downscale.report.words import quantity, unit

SEQUENTIAL = {"air_temperature": "cividis", "precipitation": "YlGnBu"}
DIVERGING = {"air_temperature": "RdBu_r", "precipitation": "BrBG"}
PANEL_INCHES = 2.35
MAX_COLUMNS = 4


@dataclass(frozen=True)
class Panel:
    """One map: title, values (y, x), and the scale it shares with others ("field", "change" or "difference")."""

    title: str
    values: np.ndarray
    scale: str


@dataclass(frozen=True)
class Scale:
    """Colours and the values at their ends; a diverging scale is symmetric about zero."""

    colours: str
    low: float
    high: float
    diverging: bool


def _kind(variable: str) -> str:
    return "precipitation" if variable == "pr" else "air_temperature"


def draw_panels(findings: Findings, rows: Sequence[Sequence[Panel | None]], variable: str, labels: dict[str, str]) -> bytes:
    """Rows of maps (None: an empty place); a scale (with its colour bar label) is shared by all panels that name it."""
    columns = max(len(row) for row in rows)
    panels = [panel for row in rows for panel in row if panel is not None]
    ny, nx = panels[0].values.shape
    aspect = float(findings.grid.attrs.get("spacing_y_km", 1.0)) / max(float(findings.grid.attrs.get("spacing_x_km", 1.0)), 1e-9)
    height = min(max(PANEL_INCHES * aspect * ny / nx, 1.2), 3.6)
    figure = new_figure(PANEL_INCHES * columns + 0.9, (height + 0.3) * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    scales = {name: _scale([panel.values for panel in panels if panel.scale == name], name, variable) for name in labels}
    for row_axes, row in zip(axes, rows, strict=True):
        images, shown = [], ""
        for axis, panel in zip_longest(row_axes, row):
            if panel is None:
                axis.set_axis_off()
            else:
                images.append(_draw(axis, panel, scales[panel.scale], aspect, findings.grid))
                shown = panel.scale
        bar = figure.colorbar(
            images[0], ax=list(row_axes), shrink=0.85, pad=0.01, extend="both" if scales[shown].diverging else "neither", aspect=18
        )
        bar.set_label(labels[shown])
        bar.outline.set_visible(False)
    return to_png(figure)


def _draw(axis: Axes, panel: Panel, scale: Scale, aspect: float, grid: xr.Dataset) -> AxesImage:
    image = axis.imshow(
        panel.values, origin="lower", cmap=scale.colours, vmin=scale.low, vmax=scale.high, aspect=aspect, interpolation="nearest"
    )
    axis.set_title(panel.title, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("#eceff2")
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_color(GREY)
    draw_coast(axis, grid)
    return image


def draw_coast(axis: Axes, grid: xr.Dataset) -> None:
    """The 50 % line of the land fraction, where there is one."""
    if "sftlf" in grid:
        land = np.asarray(grid["sftlf"].values)
        if np.nanmin(land) < 50 < np.nanmax(land):
            axis.contour(land, levels=[50.0], colors=[INK], linewidths=0.7)


def _scale(fields: Sequence[np.ndarray], name: str, variable: str) -> Scale:
    values = np.concatenate([field[np.isfinite(field)] for field in fields]) if fields else np.zeros(0)
    low, high = (float(np.quantile(values, q)) for q in (0.005, 0.995)) if values.size else (0.0, 1.0)
    if name == "difference" or (name == "change" and low < 0 < high):
        reach = max(abs(low), abs(high)) or 1.0
        return Scale(DIVERGING[_kind(variable)], -reach, reach, True)
    return Scale(SEQUENTIAL[_kind(variable)], low, high if high > low else low + 1.0, False)


def mean_maps(findings: Findings, case: CaseFacts, variable: str, data: Path) -> Picture | None:
    """Mean of the truth and of every shown run, and below the differences from the truth."""
    runs = shown_runs(findings, case)
    truth = findings.field_map(TRUTH, case.name, f"{variable}__mean__{findings.season}__all")
    found = [(run, findings.field_map(run.name, case.name, f"{variable}__mean__{findings.season}__all")) for run in runs]
    pairs = [(run, values) for run, values in found if values is not None]
    if truth is None or not pairs:
        return None
    score = findings.card.get(pairs[0][0].name, case.name, variable, "abs_bias")
    units = score.unit if score else ""
    rows: list[list[Panel | None]] = [
        [Panel("truth", truth, "field"), *(Panel(findings.label(run), values, "field") for run, values in pairs)],
        [None, *(Panel(f"{findings.label(run)} − truth", values - truth, "difference") for run, values in pairs)],
    ]
    name = f"mean_{variable}_{case.name.replace('/', '_')}"
    png = draw_panels(findings, rows, variable, {"field": f"mean {variable}, {unit(units)}", "difference": f"difference, {unit(units)}"})
    file = _save(findings, data, name, {"truth": truth, **{run.name: values for run, values in pairs}}, units)
    biases = "; ".join(
        f"{findings.label(run)} {quantity(findings.card.value(run.name, case.name, variable, 'abs_bias'), units)}" for run, _ in pairs
    )
    return Picture(
        name,
        f"Mean {variable}: {findings.source_words(case)}",
        "Mean over the test days. Top: the truth and the emulations on one scale; bottom: their differences from the truth. Mean "
        f"|difference| of a grid point: {biases}. "
        "Look for differences that follow mountains or coasts: those are detail that was not learned."
        + (" The line is the coast (half land)." if "sftlf" in findings.grid else ""),
        f"Maps of mean {variable} for {case.name}: truth, {', '.join(findings.label(run) for run, _ in pairs)}, and their "
        f"differences. Mean absolute difference: {biases}.",
        png,
        file,
    )


def shown_runs(findings: Findings, case: CaseFacts) -> list[RunFacts]:
    """The main emulator, those adapted to the case, then baselines: at most three, so that maps stay large."""
    main = [findings.main] if findings.main is not None and findings.main in findings.runs_on(case.name) else []
    adapted = findings.adapted(case.name)[:2] if main and case.name not in main[0].trained_on else []
    baselines = [run for run in findings.baselines(case.name) if run.model != "climatology"] or findings.baselines(case.name)
    return [*main, *adapted, *baselines][: MAX_COLUMNS - 1]


def change_maps(findings: Findings, case: CaseFacts, variable: str, data: Path) -> Picture | None:
    """Change signal of the truth and of the shown runs, and the differences."""
    key = f"{variable}__change_mean__{findings.season}__change"
    truth = findings.field_map(TRUTH, case.name, key)
    found = [(run, findings.field_map(run.name, case.name, key)) for run in shown_runs(findings, case)]
    pairs = [(run, values) for run, values in found if values is not None]
    if truth is None or not pairs:
        return None
    score = findings.card.get(pairs[0][0].name, case.name, variable, "change_mean", period="change")
    units = score.unit if score else ""
    rows: list[list[Panel | None]] = [
        [Panel("truth", truth, "change"), *(Panel(findings.label(run), values, "change") for run, values in pairs)],
        [None, *(Panel(f"{findings.label(run)} − truth", values - truth, "difference") for run, values in pairs)],
    ]
    name = f"change_{variable}_{case.name.replace('/', '_')}"
    png = draw_panels(
        findings, rows, variable, {"change": f"change of {variable}, {unit(units)}", "difference": f"difference, {unit(units)}"}
    )
    file = _save(findings, data, name, {"truth": truth, **{run.name: values for run, values in pairs}}, units)
    captured = "; ".join(
        f"{findings.label(run)} {quantity(findings.card.value(run.name, case.name, variable, 'change_mean', period='change'), units)}"
        for run, _ in pairs
    )
    reference = quantity(findings.card.value(pairs[0][0].name, case.name, variable, "change_mean_reference", period="change"), units)
    span = f"{case.periods[-1]} minus {case.periods[0]}"
    return Picture(
        name,
        f"Change of mean {variable}: {findings.source_words(case)}",
        f"{span}{' in % of the first period' if units == '%' else ''}. Area mean of the truth: {reference}; {captured}. An emulator "
        "that extrapolates badly shows too weak a change, "
        "most of all where the truth changes most.",
        f"Maps of the change of mean {variable} for {case.name}, {span}: truth {reference}; {captured}.",
        png,
        file,
    )


def climate_maps(findings: Findings, case: CaseFacts, variable: str, data: Path) -> Picture | None:
    """A GCM without truth: the emulated mean and the RCM truth of the training years, as context and not as a reference."""
    pair = next(iter(findings.card.recipe.get("train_on", [])), "")
    context = findings.field_map(TRUTH, f"{pair.partition('/')[0]}/training", f"{variable}__mean__{findings.season}__all")
    panels = [
        Panel(findings.label(run), values, "field")
        for run in shown_runs(findings, case)
        if (values := findings.field_map(run.name, case.name, f"{variable}__mean__{findings.season}__all")) is not None
    ]
    if not panels:
        return None
    score = next((row for row in findings.card.scores if row.case == case.name and row.variable == variable and row.metric == "mean"), None)
    units = score.unit if score else ""
    shown = [*panels, *([Panel("RCM, training years", context, "field")] if context is not None else [])]
    name = f"climate_{variable}_{case.name.replace('/', '_')}"
    png = draw_panels(findings, [shown], variable, {"field": f"mean {variable}, {unit(units)}"})
    file = _save(findings, data, name, {panel.title: panel.values for panel in shown}, units)
    return Picture(
        name,
        f"Emulated mean {variable}: {findings.source_words(case)} (no truth)",
        f"Mean over the {case.n_days:,} emulated days, beside the RCM that was learned from in its training years. The two may "
        "differ because the GCMs differ: this is a description, not an error.",
        f"Maps of emulated mean {variable} for {case.name} beside the RCM of the training years.",
        png,
        file,
    )


def _save(findings: Findings, data: Path, name: str, fields: dict[str, np.ndarray], units: str) -> str:
    coordinates = {key: findings.grid[key] for key in ("lat", "lon") if key in findings.grid}
    named = {
        key.replace("/", "_").replace(" ", "_"): xr.DataArray(values, dims=("y", "x"), attrs={"units": units})
        for key, values in fields.items()
    }
    return save_netcdf(data, name, xr.Dataset(named, coords=coordinates))
