"""Weather regimes: their patterns, how often they come, and how good the emulation is in each."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from downscale.evaluate.scorecard import number, read_maps
from downscale.report.colours import diverging
from downscale.report.figure import GREY, INK, Picture, finish, legend_above, new_figure, save_figure, save_netcdf
from downscale.report.findings import Findings
from downscale.report.plane import Panel, draw_panels
from downscale.report.tables import Cell, Table, value_cell
from downscale.report.words import left_out, metric, unit

MAX_ROW = 4
MAX_SERIES = 8
NEW, TRAINING, ALL = "0", "training", "all"
METRICS = ("bias", "rmse", "skill_vs_ridge", "error_share", "ood_share", "change_bias")
COLUMNS = 3
MARKERS = ("o", "^", "s", "v", "D")
SIGNED = ("bias", "change_bias")


def composites(findings: Findings, data: Path) -> Picture | None:
    """Mean anomaly of each regime on the coarse grid."""
    dataset = read_maps(findings.folder / "regimes.nc")
    name = next((str(key) for key, array in dataset.data_vars.items() if array.ndim == 3 and array.dims[0] == "regime"), None)
    if name is None:
        return None
    fields = np.asarray(dataset[name].values)
    labels = [str(one) for one in (dataset["regime"].values if "regime" in dataset.coords else range(1, len(fields) + 1))]
    panels: list[Panel | None] = [Panel(f"regime {label}", field, "difference") for label, field in zip(labels, fields, strict=True)]
    rows = [panels[start : start + MAX_ROW] for start in range(0, len(panels), MAX_ROW)]
    units = unit(str(dataset[name].attrs.get("units", "")))
    channel = str(dataset.attrs.get("channel", dataset[name].attrs.get("channel", name)))
    figure = draw_panels(_plane(dataset), rows, "psl", {"difference": f"anomaly of {channel}, {units}".rstrip(", ")})
    return Picture(
        "regimes",
        f"The regimes: mean anomaly of {channel}",
        f"Days of the training run's large scale in {len(labels)} groups (leading patterns of daily anomalies, then k-means); each map "
        "is the mean anomaly of its days, the seasonal cycle removed.",
        f"Maps of the mean anomaly of {channel} in {len(labels)} weather regimes.",
        save_figure(figure, data, "regimes"),
        save_netcdf(data, "regimes", dataset[[name]]),
        "regimes.nc",
    )


def _plane(dataset: xr.Dataset) -> xr.Dataset:
    """lat and lon as (y, x), whatever the file has."""
    if "lat" not in dataset.variables or "lon" not in dataset.variables:
        return xr.Dataset()
    lat, lon = np.asarray(dataset["lat"].values), np.asarray(dataset["lon"].values)
    if lat.ndim == 1:
        lon, lat = np.meshgrid(lon, lat)
    return xr.Dataset({"lat": (("y", "x"), lat), "lon": (("y", "x"), lon)})


def frequencies(findings: Findings, data: Path) -> Picture | None:
    """How often each regime comes, by case and period, beside the reference."""
    rows = findings.table("regime_frequency", season=findings.season)
    every = _series(rows)
    series = every[:MAX_SERIES]
    names = _names(rows)
    if not series:
        return None
    figure = new_figure(8.2, 3.6)
    axis = figure.subplots()
    reference = {row["regime"]: number(row["reference_frequency"]) for row in rows}
    axis.bar(range(len(names)), [100 * reference[name] for name in names], width=0.84, color="#e4e7ea", label="training run's RCMu")
    for place, key in enumerate(series):
        some = [row for row in rows if (row["case"], row["period"]) == key]
        offset = (place - (len(series) - 1) / 2) * 0.7 / max(len(series), 1)
        marker = MARKERS[[period for case, period in series if case == key[0]].index(key[1]) % len(MARKERS)]
        _draw_frequency(axis, some, names, offset, (findings.colour_of(key[0]), marker), " ".join(key))
    axis.set_xticks(range(len(names)), [label(name) for name in names])
    axis.set_ylabel("days, %")
    axis.set_ylim(bottom=0)
    legend_above(figure, axis)
    far = max((row for row in rows if (row["case"], row["period"]) in series), key=lambda row: _gap(row))
    text = (
        f"Farthest from the reference: {label(far['regime'])} in {far['case']} ({far['period']}), "
        f"{100 * number(far['frequency']):.0f} % of the days against {100 * number(far['reference_frequency']):.0f} %"
    )
    return finish(
        figure,
        data,
        "regime_frequency",
        rows,
        title="How often the regimes come",
        caption=f"Bars: the training run; marks: each case and period{_interval_words(rows)}. {text}."
        f"{left_out(every, series, 'cases and periods')}",
        alt=f"Frequencies of {len(names)} regimes for {len(series)} cases and periods. {text}.",
        origin="regime_frequency.csv",
    )


def label(regime: str) -> str:
    """Of a regime; 0 is weather like none of them."""
    return "like none" if regime == NEW else f"regime {regime}"


def _names(rows: list[dict[str, str]]) -> list[str]:
    return sorted({row["regime"] for row in rows}, key=lambda one: (one == NEW, len(one), one))


def _series(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Cases and periods that are shown: single periods rather than all days, and not the days the regimes were found on."""
    found = list(dict.fromkeys((row["case"], row["period"]) for row in rows if row["period"] != TRAINING))
    single = {case for case, period in found if period != ALL}
    return [(case, period) for case, period in found if period != ALL or case not in single]


def _interval_words(rows: list[dict[str, str]]) -> str:
    known = any(math.isfinite(number(row["lower"])) for row in rows if row["period"] != TRAINING)
    return ", lines their 95 % intervals (whole years resampled)" if known else ", without intervals: too few years"


def _gap(row: dict[str, str]) -> float:
    gap = abs(number(row["frequency"]) - number(row["reference_frequency"]))
    return gap if math.isfinite(gap) else -1.0


def _draw_frequency(axis: Axes, rows: list[dict[str, str]], names: list[str], offset: float, look: tuple[str, str], label: str) -> None:
    x, (colour, marker) = np.array([names.index(row["regime"]) for row in rows]) + offset, look
    axis.scatter(x, [100 * number(row["frequency"]) for row in rows], s=22, color=colour, marker=marker, label=label, zorder=3)
    for place, row in zip(x, rows, strict=True):
        if math.isfinite(number(row["lower"])):
            axis.plot([place, place], [100 * number(row["lower"]), 100 * number(row["upper"])], color=colour, linewidth=1.3)


def scores(findings: Findings, data: Path) -> list[Picture]:
    """Scores of the main run by regime, a picture per target, a panel per metric."""
    rows = findings.table("regime_scores", run=findings.main.name) if findings.main else []
    found = []
    for variable in dict.fromkeys(row["variable"] for row in rows):
        some = [row for row in rows if row["variable"] == variable]
        known = list(dict.fromkeys(row["metric"] for row in some))
        metrics = [name for name in METRICS if name in known] or known[: 2 * COLUMNS]
        found.append(_scores(findings, variable, some, metrics, data))
    return found


def _scores(findings: Findings, variable: str, rows: list[dict[str, str]], metrics: list[str], data: Path) -> Picture:
    every = list(dict.fromkeys(row["case"] for row in rows))
    cases = every[:MAX_SERIES]
    names = _names(rows)
    columns = min(len(metrics), COLUMNS)
    lines = -(-len(metrics) // columns)
    figure = new_figure(1.6 + 2.6 * columns, (0.75 + 0.3 * len(cases)) * lines)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(metrics) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, metrics, strict=False):
        some = {(row["case"], row["regime"]): row for row in rows if row["metric"] == name}
        values = np.array([[number(some[case, one]["value"]) if (case, one) in some else math.nan for one in names] for case in cases])
        units = next(iter(some.values()))["unit"]
        _heat(axis, values, name, variable)
        axis.set_title(f"{metric(name)}, {unit(units)}".rstrip(", "), loc="left", fontsize=8.5)
        axis.set_xticks(range(len(names)), ["none" if name == NEW else name for name in names])
        axis.set_xlabel("regime", fontsize=8)
        axis.set_yticks(range(len(cases)), cases, fontsize=8)
    main = findings.main.name if findings.main else ""
    return finish(
        figure,
        data,
        f"regime_scores_{variable}",
        rows,
        title=f"{variable} by regime",
        caption=f"Scores of {main} on the days of each regime. A column that stands out in every row is weather that is hard to emulate; "
        "one that stands out for a GCM only is weather that the GCM makes in another way. Darker is worse, also where a high value is good "
        f"(skill).{left_out(every, cases, 'cases')}",
        alt=f"Table of {', '.join(metric(name) for name in metrics)} of {variable} by regime for {', '.join(cases)}.",
        origin="regime_scores.csv",
    )


def _heat(axis: Axes, values: np.ndarray, name: str, variable: str) -> None:
    """Darker is worse: both ends of what is best at zero, large errors and shares, the lowest skill of the panel."""
    reach = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    reach = reach or 1.0
    skill = name.startswith("skill")
    bad = 0.0 - values if skill else np.abs(values)
    known = bad[np.isfinite(bad)] if np.isfinite(bad).any() else np.zeros(1)
    best, worst = float(known.min()) if skill else 0.0, float(known.max())
    worst = worst if worst > best else best + 1.0
    if name in SIGNED:
        axis.imshow(values, cmap=diverging(variable), vmin=-worst, vmax=worst, aspect="auto")
    else:
        axis.imshow(bad, cmap="YlOrBr", vmin=best, vmax=worst, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        shade = "white" if bad[y, x] - best > 0.7 * (worst - best) else INK
        axis.text(
            x, y, _decimals(float(value), reach), ha="center", va="center", fontsize=7.5, color=shade if math.isfinite(value) else GREY
        )
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _decimals(value: float, reach: float) -> str:
    """A number with as many decimals as the largest of its panel has in two digits."""
    places = max(1 - math.floor(math.log10(reach)), 0)
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "−") if math.isfinite(value) else "–"


def stability_table(findings: Findings) -> Table | None:
    """Which numbers of regimes were tried."""
    lines = tuple(
        (row["k"], (value_cell(row["stability"], 2), value_cell(row.get("noise", ""), 2), Cell(_chosen(row))))
        for row in findings.table("regime_stability")
    )
    return (
        Table(
            "Number of regimes, how stable they are under resampling (1: the same each time), and what red noise of the same variance and "
            "memory gives",
            ("stability", "of noise", ""),
            lines,
            "regimes",
            folded=True,
        )
        if lines
        else None
    )


def _chosen(row: dict[str, str]) -> str:
    if row["chosen"] not in ("1", "True", "true"):
        return ""
    above = number(row["stability"]) > number(row.get("noise", ""))
    return "chosen" if above or not row.get("noise") else "chosen, and not above noise: a way of sorting days, no property of the weather"
