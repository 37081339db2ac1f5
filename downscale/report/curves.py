"""Spectra, quantile-quantile plots and change-signal scatter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from downscale.evaluate.scorecard import TRUTH, number
from downscale.report.figure import COLOURS, GREY, TRUTH_COLOUR, Picture, new_figure, save_csv, save_figure
from downscale.report.findings import CaseFacts, Findings, RunFacts
from downscale.report.maps import shown_runs
from downscale.report.words import quantity, unit


def _colour(findings: Findings, run: RunFacts) -> str:
    """The colour of a run, the same in every figure; the main run has the first."""
    order = sorted(findings.runs.values(), key=lambda one: (one != findings.main, one.role != "emulator", one.name))
    return COLOURS[order.index(run) % len(COLOURS)]


def _runs(findings: Findings, case: CaseFacts) -> list[RunFacts]:
    shown = shown_runs(findings, case)
    return shown + [run for run in findings.baselines(case.name) if run not in shown and run.model != "climatology"]


def distribution(findings: Findings, case: CaseFacts, variable: str, data: Path) -> Picture | None:
    """Spectrum relative to the truth's, and quantiles against the truth's."""
    runs = _runs(findings, case)
    spectra, quantiles = _spectra(findings, case, variable, runs), _quantiles(findings, case, variable, runs)
    if not quantiles:
        return None
    units = next((row.unit for row in findings.card.scores if row.variable == variable and row.metric == "rmse"), "")
    figure = new_figure(8.6, 3.4)
    left, right = figure.subplots(1, 2)
    _draw_spectra(left, findings, spectra, runs)
    _draw_quantiles(right, findings, quantiles, runs, f"{variable}, {unit(units)}")
    name = f"distribution_{variable}_{case.name.replace('/', '_')}"
    file = save_csv(data, name, [*_rows("spectrum", "wavenumber", spectra), *_rows("quantile", "probability", quantiles)])
    distances = "; ".join(
        f"{findings.label(run)} {quantity(findings.card.value(run.name, case.name, variable, 'log_spectral_distance'), 'dB')}"
        for run in runs
        if run.name in spectra
    )
    return Picture(
        name,
        f"Small scales and distribution of {variable}: {findings.source_words(case)}",
        "Left: power of the daily fields at each wavelength relative to the truth; below 1 the emulation is too smooth, and the "
        "dotted line at 0.5 is where scales count as lost"
        + (f" (log spectral distance: {distances})" if distances else " (no spectrum: the domain has missing cells or is too small)")
        + ". Right: area means of each grid point's quantiles (0.1 % to 99.9 %), emulated minus true against true; on the zero "
        "line the distributions agree.",
        f"Power spectra relative to the truth and quantile differences of {variable} for {case.name}. {distances}",
        save_figure(figure, data, name),
        file,
        "quantiles.csv, spectra.nc",
    )


def _spectra(findings: Findings, case: CaseFacts, variable: str, runs: list[RunFacts]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    spectra = findings.spectra
    if "power" not in spectra or not spectra.sizes.get("series"):
        return {}
    k = np.asarray(spectra["wavenumber"].values)
    keys = list(zip(spectra["run"].values.tolist(), spectra["case"].values.tolist(), spectra["variable"].values.tolist(), strict=True))
    power = {key: np.asarray(spectra["power"].values)[position] for position, key in enumerate(keys)}
    truth = power.get((TRUTH, f"{case.group}/{TRUTH}", variable))
    found = {run.name: (k, power[run.name, case.name, variable]) for run in runs if (run.name, case.name, variable) in power}
    return {TRUTH: (k, truth), **found} if truth is not None and found else {}


def _quantiles(findings: Findings, case: CaseFacts, variable: str, runs: list[RunFacts]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    wanted = {run.name: case.name for run in runs} | {TRUTH: f"{case.group}/{TRUTH}"}
    found: dict[str, list[tuple[float, float]]] = {}
    for row in findings.tables["quantiles"]:
        if row["variable"] == variable and wanted.get(row["run"]) == row["case"]:
            found.setdefault(row["run"], []).append((number(row["probability"]), number(row["value"])))
    return (
        {run: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for run, pairs in found.items()} if TRUTH in found and len(found) > 1 else {}
    )


def _draw_spectra(axis: Axes, findings: Findings, spectra: dict[str, tuple[np.ndarray, np.ndarray]], runs: list[RunFacts]) -> None:
    axis.set_title(f"Power relative to the {findings.truth_word}", loc="left")
    if not spectra:
        axis.text(0.5, 0.5, "no spectrum here", ha="center", transform=axis.transAxes, color=GREY)
        axis.set_axis_off()
        return
    truth = spectra[TRUTH][1]
    for run in runs:
        if run.name in spectra:
            k, power = spectra[run.name]
            with np.errstate(divide="ignore", invalid="ignore"):
                axis.loglog(
                    1 / k,
                    power / truth,
                    color=_colour(findings, run),
                    label=findings.label(run),
                    linewidth=2.2 if run == findings.main else 1.3,
                )
    axis.axhline(1.0, color=TRUTH_COLOUR, linewidth=0.9)
    axis.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, 1e-3), max(high, 1.5))
    axis.invert_xaxis()
    plain_ticks(axis.xaxis)
    plain_ticks(axis.yaxis)
    axis.set_xlabel("wavelength, km")
    axis.grid(True, which="major")


def plain_ticks(axis: Axis) -> None:
    """1, 2 and 5 of each decade, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _draw_quantiles(
    axis: Axes, findings: Findings, quantiles: dict[str, tuple[np.ndarray, np.ndarray]], runs: list[RunFacts], label: str
) -> None:
    truth = quantiles[TRUTH][1]
    for run in runs:
        if run.name in quantiles:
            axis.plot(
                truth,
                quantiles[run.name][1] - truth,
                color=_colour(findings, run),
                marker="o",
                markersize=2.6,
                linewidth=2.0 if run == findings.main else 1.2,
                label=findings.label(run),
            )
    axis.axhline(0.0, color=TRUTH_COLOUR, linewidth=0.9)
    axis.set_title(f"Quantiles: difference from the {findings.truth_word}", loc="left")
    axis.set_xlabel(f"quantile of the {findings.truth_word}: {label}")
    axis.set_ylabel("difference")
    axis.grid(True)
    axis.legend(fontsize=8)


def _rows(what: str, axis: str, series: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[dict[str, object]]:
    return [
        {"what": what, "run": run, axis: float(one), "value": float(other)}
        for run, (x, y) in series.items()
        for one, other in zip(x, y, strict=True)
    ]


def change_scatter(findings: Findings, case: CaseFacts, data: Path) -> Picture | None:
    """Emulated against true change at every grid point, a panel per target."""
    main = findings.main
    if main is None or len(case.periods) < 2:
        return None
    runs = shown_runs(findings, case)
    panels = {variable: _changes(findings, case, variable, runs) for variable in findings.targets}
    panels = {variable: series for variable, series in panels.items() if series}
    if not panels:
        return None
    figure = new_figure(3.9 * len(panels) + 0.4, 3.7)
    for axis, (variable, series) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw_scatter(axis, findings, case, variable, series)
    name = f"change_scatter_{case.name.replace('/', '_')}"
    rows = [
        {"variable": variable, "run": run.name, "cell": cell, "truth": float(one), "emulated": float(other)}
        for variable, series in panels.items()
        for run, (truth, values) in series.items()
        for cell, (one, other) in enumerate(zip(truth, values, strict=True))
    ]
    captured = "; ".join(
        f"{variable} {quantity(findings.card.value(main.name, case.name, variable, 'change_mean_captured', period='change'), '1')}"
        for variable in panels
    )
    return Picture(
        name,
        f"Change signal, point by point: {findings.source_words(case)}",
        "Each dot is a grid point; on the line the emulated change of the mean equals the true one. Captured fraction of the "
        f"area-mean change by {main.name}: {captured}. "
        "A cloud flatter than the line means that strong changes are damped.",
        f"Scatter of emulated against true change of the mean for {case.name}. Captured fraction: {captured}.",
        save_figure(figure, data, name),
        save_csv(data, name, rows),
        "maps.nc",
    )


def _changes(findings: Findings, case: CaseFacts, variable: str, runs: list[RunFacts]) -> dict[RunFacts, tuple[np.ndarray, np.ndarray]]:
    key = f"{variable}__change_mean__{findings.season}__change"
    truth = findings.field_map(TRUTH, case.name, key)
    if truth is None:
        return {}
    result = {}
    for run in runs:
        values = findings.field_map(run.name, case.name, key)
        if values is not None:
            valid = np.isfinite(values) & np.isfinite(truth)
            step = max(1, int(valid.sum()) // 2000)
            result[run] = (truth[valid][::step], values[valid][::step])
    return result


def _draw_scatter(
    axis: Axes, findings: Findings, case: CaseFacts, variable: str, series: dict[RunFacts, tuple[np.ndarray, np.ndarray]]
) -> None:
    score = next(
        (row for row in findings.card.scores if row.variable == variable and row.metric == "change_mean" and row.case == case.name), None
    )
    for run, (truth, values) in reversed(series.items()):
        axis.scatter(truth, values, s=7, color=_colour(findings, run), alpha=0.55, linewidths=0, label=findings.label(run))
    points = np.concatenate([np.concatenate(pair) for pair in series.values()])
    if points.size:
        ends = [float(points.min()), float(points.max())]
        axis.plot(ends, ends, color=TRUTH_COLOUR, linewidth=0.9)
    axis.set_title(f"{variable}", loc="left")
    axis.set_xlabel(f"true change, {unit(score.unit) if score else ''}")
    axis.set_ylabel("emulated change")
    axis.grid(True)
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], labels[::-1], fontsize=8, markerscale=2)
