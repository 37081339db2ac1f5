"""Return levels: of single series and pooled over the emulated ensemble."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from downscale.evaluate.scorecard import TRUTH, number
from downscale.report.figure import COLOURS, TRUTH_COLOUR, Picture, finish, legend_above, new_figure
from downscale.report.findings import Findings
from downscale.report.tables import Cell, Table, count_cell
from downscale.report.words import quantity, unit

POOLED = "pooled"
MAX_PANELS = 3
MAX_SERIES = 7


def _rows(findings: Findings) -> list[dict[str, str]]:
    """Of the main run, of the truth and pooled."""
    main = findings.main.name if findings.main else ""
    wanted = {main, TRUTH, "", "all"}
    known = [row for row in findings.table("return_levels") if math.isfinite(number(row["value"]))]
    return [row for row in known if row["run"] in wanted]


def why_none(findings: Findings) -> str:
    """The reason when the table holds no level at all; empty otherwise."""
    rows = findings.table("return_levels")
    reasons = {row["method"].partition(": ")[2] for row in rows}
    return "; ".join(sorted(reasons - {""})) if rows and not _rows(findings) else ""


def return_levels(findings: Findings, variable: str, data: Path) -> Picture | None:
    """Levels against return periods with their intervals, a panel per period of years."""
    rows = [row for row in _rows(findings) if row["variable"] == variable]
    periods = list(dict.fromkeys(row["period"] for row in rows))[:MAX_PANELS]
    if not periods:
        return None
    series = sorted({_key(row) for row in rows}, key=lambda key: (not key[0].startswith(POOLED), key[1] != TRUTH, key))[:MAX_SERIES]
    figure = new_figure(0.8 + max(3.4 * len(periods), 5.2), 3.6)
    axes = figure.subplots(1, len(periods), squeeze=False, sharey=True)[0]
    for axis, period in zip(axes, periods, strict=True):
        for place, key in enumerate(series):
            some = [row for row in rows if row["period"] == period and _key(row) == key]
            _draw(axis, some, key, _colour(findings, key), 1.0 + 0.05 * (place - (len(series) - 1) / 2))
        axis.set_title(period if period != "all" else "all years", loc="left")
        axis.set_xlabel("return period, years")
        axis.grid(True)
    axes[0].set_ylabel(f"{variable}, {unit(rows[0]['unit'])}")
    legend_above(figure, axes[0])
    _ticks(axes, rows)
    emulated = [row for row in rows if row["run"] != TRUTH] or rows
    pooled = [row for row in emulated if row["scope"].startswith(POOLED)] or emulated
    last = max(pooled, key=lambda row: (number(row["return_years"]), "perfect" not in row["scope"]))
    text = f"{number(last['return_years']):g}-year level ({_name(_key(last))}, {last['period']}): {_level(last)}"
    return finish(
        figure,
        data,
        f"return_levels_{variable}",
        rows,
        title=f"Return levels of {variable}{' by ' + findings.main.name if findings.main else ''}",
        caption=f"Level that is exceeded once in so many years, with 95 % intervals. {text}. A level for more years than the series has "
        "rests on the shape of the fitted distribution.",
        alt=f"Return levels of {variable} for {len(series)} series. {text}.",
        origin="return_levels.csv",
    )


def _key(row: dict[str, str]) -> tuple[str, str]:
    return row["scope"], row["run"]


def _name(key: tuple[str, str]) -> str:
    scope, run = key
    if run == TRUTH and scope.startswith(POOLED):
        return f"RCM runs, {scope}"
    return f"truth of {scope.partition('/')[0]}" if run == TRUTH else scope


def _colour(findings: Findings, key: tuple[str, str]) -> str:
    scope, run = key
    if run == TRUTH:
        return TRUTH_COLOUR
    return COLOURS[-2 if "perfect" in scope else -1] if scope.startswith(POOLED) else findings.colour_of(scope)


def _level(row: dict[str, str]) -> str:
    text = quantity(number(row["value"]), row["unit"], 3)
    lower, upper = number(row["lower"]), number(row["upper"])
    return f"{text} ({quantity(lower, '', 3)} to {quantity(upper, '', 3)})" if math.isfinite(lower) else text


def _draw(axis: Axes, rows: list[dict[str, str]], key: tuple[str, str], colour: str, shift: float) -> None:
    rows = sorted(rows, key=lambda row: number(row["return_years"]))
    if not rows:
        return
    x = [number(row["return_years"]) * shift for row in rows]
    values, width = [number(row["value"]) for row in rows], 2.2 if key[0].startswith(POOLED) else 1.2
    axis.plot(x, values, marker="o", markersize=3.5, color=colour, linewidth=width, label=_name(key))
    for at, row in zip(x, rows, strict=True):
        if math.isfinite(number(row["lower"])):
            axis.plot([at, at], [number(row["lower"]), number(row["upper"])], color=colour, linewidth=1.1)


def _ticks(axes: list[Axes], rows: list[dict[str, str]]) -> None:
    years = sorted({number(row["return_years"]) for row in rows})
    for axis in axes:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(years))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_xlim(years[0] * 0.8, years[-1] * 1.25)


def level_table(findings: Findings) -> Table | None:
    """All return levels."""
    lines = tuple(
        (
            f"{row['variable']}, {_name(_key(row))}, {row['period']}",
            (
                count_cell(row["return_years"]),
                Cell(_level(row), value=number(row["value"])),
                count_cell(row["n_years"]),
                count_cell(row["n_series"]),
                Cell(row["method"]),
            ),
        )
        for row in _rows(findings)
    )
    columns = ("return period, years", "level (95 % interval)", "years", "series", "method")
    return Table("Return levels", columns, lines, "series", folded=True) if lines else None
