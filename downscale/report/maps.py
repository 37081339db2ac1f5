"""Maps of the mean, its change and its bias: the truth, the shown runs and their differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from downscale.evaluate.scorecard import TRUTH
from downscale.report.figure import Picture, save_figure, save_netcdf
from downscale.report.findings import CaseFacts, Findings, RunFacts
from downscale.report.plane import Panel, draw_panels
from downscale.report.words import quantity, unit

MAX_COLUMNS = 4
LONG_NAME = 14


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
        [Panel(findings.truth_word, truth, "field"), *(Panel(findings.label(run), values, "field") for run, values in pairs)],
        [None, *(_difference(findings, case, f"{variable}__bias", run, values - truth) for run, values in pairs)],
    ]
    name = f"mean_{variable}_{case.name.replace('/', '_')}"
    labels = {"field": f"mean {variable}, {unit(units)}", "difference": f"difference, {unit(units)}"}
    png = save_figure(draw_panels(findings.grid, rows, variable, labels), data, name)
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
        + (" The dark line is the coast (half land)." if "sftlf" in findings.grid else "")
        + _stipple_words(rows[1]),
        f"Maps of mean {variable} for {case.name}: truth, {', '.join(findings.label(run) for run, _ in pairs)}, and their "
        f"differences. Mean absolute difference: {biases}.",
        png,
        file,
        "maps.nc",
    )


def _difference(findings: Findings, case: CaseFacts, stem: str, run: RunFacts, values: np.ndarray) -> Panel:
    marks = findings.field_map(run.name, case.name, f"{stem}__{findings.season}__all__significant")
    return Panel(difference_title(findings.label(run), findings.truth_word), values, "difference", marks)


def difference_title(label: str, truth: str = TRUTH) -> str:
    """Of a panel; long names get a line of their own."""
    separator = "\n" if len(label) > LONG_NAME else " "
    return f"{label}{separator}− {truth}"


def _stipple_words(panels: list[Panel | None]) -> str:
    if any(panel is not None and panel.significant is not None for panel in panels):
        return " Dots mark cells whose bias is more than chance (yearly biases; at most one dot in ten is expected to be false)."
    return " No dots for significance: that needs ten years."


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
        [Panel(findings.truth_word, truth, "change"), *(Panel(findings.label(run), values, "change") for run, values in pairs)],
        [None, *(Panel(difference_title(findings.label(run), findings.truth_word), values - truth, "difference") for run, values in pairs)],
    ]
    name = f"change_{variable}_{case.name.replace('/', '_')}"
    labels = {"change": f"change of {variable}, {unit(units)}", "difference": f"difference, {unit(units)}"}
    png = save_figure(draw_panels(findings.grid, rows, variable, labels), data, name)
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
        "maps.nc",
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
    png = save_figure(draw_panels(findings.grid, [shown], variable, {"field": f"mean {variable}, {unit(units)}"}), data, name)
    file = _save(findings, data, name, {panel.title: panel.values for panel in shown}, units)
    return Picture(
        name,
        f"Emulated mean {variable}: {findings.source_words(case)} (no truth)",
        f"Mean over the {case.n_days:,} emulated days, beside the RCM that was learned from in its training years. The two may "
        "differ because the GCMs differ: this is a description, not an error.",
        f"Maps of emulated mean {variable} for {case.name} beside the RCM of the training years.",
        png,
        file,
        "maps.nc",
    )


def _save(findings: Findings, data: Path, name: str, fields: dict[str, np.ndarray], units: str) -> str:
    coordinates = {key: findings.grid[key] for key in ("lat", "lon") if key in findings.grid}
    named = {
        key.replace("/", "_").replace(" ", "_"): xr.DataArray(values, dims=("y", "x"), attrs={"units": units})
        for key, values in fields.items()
    }
    return save_netcdf(data, name, xr.Dataset(named, coords=coordinates))
