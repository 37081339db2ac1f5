"""Transfer matrix, predictor-shift heat map and error-split bars."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from downscale.evaluate.scorecard import number
from downscale.report.colours import diverging
from downscale.report.figure import COLOURS, GREY, INK, Picture, new_figure, save_csv, save_figure
from downscale.report.findings import Findings, ordered
from downscale.report.words import left_out, percent, unit
from downscale.report.words import metric as metric_words
from downscale.report.words import number as number_words

MATRIX_METRICS = ("abs_bias", "w1", "abs_p99_bias")
SPLIT_STATISTICS = {"climatology": "mean climate", "p99": "P99", "change_mean": "change of the mean", "daily": "daily fields"}
SHIFT_REACH = 1.0
SHIFT_COLUMNS, MAX_SHIFTS = 3, 12


def transfer_matrix(findings: Findings, variable: str, data: Path) -> Picture | None:
    """Runs (rows) against cases (columns) for three scores."""
    rows = [
        row
        for row in findings.tables["transfer"]
        if row["variable"] == variable and row["season"] == findings.season and row["metric"] in MATRIX_METRICS
    ]
    scored = {row["emulator"] for row in rows}
    runs = [run for run in ordered(findings.runs.values()) if run.name in scored]
    cases = [case for case in sorted(findings.cases) if any(row["case"] == case for row in rows)]
    if not runs or len(cases) < 2:
        return None
    figure = new_figure(1.7 + 2.6 * len(MATRIX_METRICS), 1.25 + 0.33 * len(runs))
    axes = figure.subplots(1, len(MATRIX_METRICS), sharey=True)
    for axis, name in zip(axes, MATRIX_METRICS, strict=True):
        cells = {(row["emulator"], row["case"]): row for row in rows if row["metric"] == name}
        values = np.array(
            [[number(cells[run.name, case]["value"]) if (run.name, case) in cells else math.nan for case in cases] for run in runs]
        )
        kinds = {(runs.index(findings.runs[run]), cases.index(case)): row.get("transfer", "") for (run, case), row in cells.items()}
        trained = [(y, x) for y, run in enumerate(runs) for x, case in enumerate(cases) if case in run.trained_on]
        scale = values[[run.model != "climatology" for run in runs]]
        _draw_matrix(axis, values, kinds, trained, float(np.nanmax(scale)) if np.isfinite(scale).any() else 1.0)
        units = next((score.unit for score in findings.card.scores if score.variable == variable and score.metric == name), "")
        axis.set_title(f"{metric_words(name)}, {unit(units)}", loc="left", fontsize=8.5)
        axis.set_xticks(range(len(cases)), [case.replace("/", "\n") for case in cases], fontsize=7)
        axis.set_yticks(range(len(runs)), [run.name for run in runs], fontsize=8)
    name = f"transfer_{variable}"
    named = (
        "; home: the GCM run and period of the training, soft: the same GCM in another period or scenario, hard: another GCM"
        if any(row.get("transfer") for row in rows)
        else ""
    )
    return Picture(
        name,
        f"Transfer matrix for {variable}",
        "Rows: runs; columns: what they were applied to (perfect: RCMu; imperfect: the GCM's own fields). Darker is worse; a frame "
        f"marks pairs that the run learned from{named}. "
        "A good emulator of another GCM keeps the colour of its framed cell along the row.",
        f"Table of {', '.join(metric_words(one) for one in MATRIX_METRICS)} of {variable} for {len(runs)} runs and {len(cases)} "
        "cases; the same numbers are in the data file.",
        save_figure(figure, data, name),
        save_csv(data, name, rows),
        "transfer.csv",
    )


def _draw_matrix(axis: Axes, values: np.ndarray, kinds: dict[tuple[int, int], str], trained: list[tuple[int, int]], top: float) -> None:
    axis.imshow(values, cmap="YlOrBr", vmin=0, vmax=top or 1.0, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        colour = "white" if value > 0.65 * top else INK
        axis.text(x, y - 0.08, number_words(float(value), 2), ha="center", va="center", fontsize=7.5, color=colour)
        axis.text(x, y + 0.3, kinds.get((y, x), ""), ha="center", va="center", fontsize=5.5, color=colour)
    for y, x in trained:
        axis.add_patch(_frame(x, y))
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _frame(x: int, y: int) -> Rectangle:
    return Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, edgecolor=COLOURS[0], linewidth=1.6)


def predictor_shift(findings: Findings, data: Path) -> Picture | None:
    """Channels against seasons, a panel per comparison; colour is d, the number below it the Wasserstein distance."""
    rows = findings.tables["predictor_shift"]
    every = list(dict.fromkeys((row["case"], row["against"]) for row in rows))
    panels = every[:MAX_SHIFTS]
    if not panels:
        return None
    channels = list(dict.fromkeys(row["channel"] for row in rows))
    columns = min(len(panels), SHIFT_COLUMNS)
    lines = -(-len(panels) // columns)
    figure = new_figure(1.2 + 2.6 * columns, (0.8 + max(0.22 * len(channels), 1.2)) * lines)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    images = []
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes, panels, strict=False):
        images.append(_draw_shift(axis, [row for row in rows if (row["case"], row["against"]) == panel], channels))
        axis.set_title(f"{panel[0]}\nvs {panel[1]}", loc="left", fontsize=8)
    bar = figure.colorbar(images[0], ax=list(axes), shrink=0.9 if lines == 1 else 0.6, pad=0.01, extend="both", aspect=15 * lines + 5)
    bar.set_label("shift d, daily standard deviations", fontsize=8)
    bar.outline.set_visible(False)
    worst = max(rows, key=lambda row: number(row["abs_shift"]) if math.isfinite(number(row["abs_shift"])) else -1)
    text = f"largest mean |d| of a cell: {worst['channel']} in {worst['season']} of {worst['case']} against {worst['against']}"
    text += f", {number_words(number(worst['abs_shift']), 2)} ({number_words(number(worst['shift']), 2)} as area mean)"
    return Picture(
        "predictor_shift",
        "Predictor shift: GCM against RCMu",
        "Mean difference of each predictor in units of its daily standard deviation in the reference, area mean. Against the RCMu "
        "of its own RCM the shift is inconsistency between "
        "GCM and RCM; against the training source it also holds the difference between two climates. Differences of opposite sign cancel "
        f"in it; in the mean |d|, which the traffic light reads, they do not. Colours saturate at ±1; {text}."
        f"{left_out(every, panels, 'comparisons')}",
        f"Heat map of predictor shift by channel and season for {len(panels)} comparisons; {text}.",
        save_figure(figure, data, "predictor_shift"),
        save_csv(data, "predictor_shift", rows),
        "predictor_shift.csv",
    )


def _draw_shift(axis: Axes, rows: list[dict[str, str]], channels: list[str]) -> AxesImage:
    seasons = list(dict.fromkeys(row["season"] for row in rows))
    values = np.full((len(channels), len(seasons)), np.nan)
    for row in rows:
        values[channels.index(row["channel"]), seasons.index(row["season"])] = number(row["shift"])
    image = axis.imshow(values, cmap=diverging("tas"), vmin=-SHIFT_REACH, vmax=SHIFT_REACH, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if math.isfinite(value):
            axis.text(
                x,
                y,
                f"{round(value, 1) + 0.0:.1f}".replace("-", "−"),
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if abs(value) > 0.7 else INK,
            )
    axis.set_xticks(range(len(seasons)), seasons, fontsize=7)
    axis.set_yticks(range(len(channels)), channels, fontsize=7.5)
    axis.tick_params(length=0)
    return image


def error_split(findings: Findings, data: Path) -> Picture | None:
    """Bars of the two parts of the squared error and the total with its cross term, for the main run."""
    main = findings.main
    rows = [
        row
        for row in findings.tables["error_split"]
        if main is not None
        and row["run"] == main.name
        and row["season"] == findings.season
        and row["statistic"] in SPLIT_STATISTICS
        and math.isfinite(number(row["share_input"]))
    ]
    if main is None or not rows:
        return None
    rows.sort(key=lambda row: (row["group"], row["variable"], list(SPLIT_STATISTICS).index(row["statistic"])))
    figure = new_figure(8.2, 0.95 + 0.27 * len(rows))
    _draw_split(figure, rows)
    shares = "; ".join(
        f"{row['group']} {row['variable']} {percent(number(row['share_input']))}" for row in rows if row["statistic"] == "climatology"
    )
    return Picture(
        "error_split",
        f"Where the error of {main.name} on GCM fields comes from",
        "f(GCM) − RCM = [f(GCM) − f(RCMu)] + [f(RCMu) − RCM]: squared parts as shares of their sum. Blue: the GCM's fields are not "
        "those of the RCM; yellow: the emulator itself. "
        "The diamond is the total with the cross term (left of 1: the two errors cancel in part). Share of the GCM in the mean "
        f"climate: {shares}. In daily fields the blue part is mostly weather that has drifted apart.",
        f"Bars of the error split of {main.name}. Share of the GCM in the mean climate: {shares}.",
        save_figure(figure, data, "error_split"),
        save_csv(data, "error_split", rows),
        "error_split.csv",
    )


def _draw_split(figure: Figure, rows: list[dict[str, str]]) -> None:
    axis = figure.subplots()
    labels = [f"{row['group']}  {row['variable']}  {SPLIT_STATISTICS[row['statistic']]}" for row in rows]
    share = np.array([number(row["share_input"]) for row in rows])
    total = np.array([number(row["total"]) / (number(row["input"]) + number(row["emulator"])) for row in rows])
    places = np.arange(len(rows))[::-1]
    axis.barh(places, share, color=COLOURS[0], height=0.68, label="GCM's inconsistency")
    axis.barh(places, 1 - share, left=share, color=COLOURS[2], height=0.68, label="emulator")
    axis.scatter(total, places, marker="D", s=20, color=INK, zorder=3, label="total, cross term included")
    axis.axvline(1.0, color=GREY, linewidth=0.8)
    axis.set_yticks(places, labels, fontsize=8)
    axis.set_xlim(0, max(1.05, float(np.nanmax(total)) * 1.04))
    axis.set_xlabel("share of the squared parts")
    axis.legend(ncols=3, fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1.0))
