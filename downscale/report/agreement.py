"""How GCM and RCMu agree: told apart by a classifier, by scale, in features of the network, in the emulated surface."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from downscale.evaluate.scorecard import TRUTH, number
from downscale.report.colours import diverging
from downscale.report.figure import COLOURS, GRID, INK, Picture, finish, new_figure
from downscale.report.findings import Findings
from downscale.report.tables import Cell, Table, value_cell
from downscale.report.words import left_out, quantity
from downscale.report.words import number as number_words

MAX_PANELS, COLUMNS = 12, 4
REACH = 1.0
MARKS = {"logistic": ("o", COLOURS[0]), "boosting": ("D", COLOURS[1])}


def separability(findings: Findings, data: Path) -> Picture | None:
    """How well a classifier tells two sets of days apart."""
    rows = [row for row in findings.table("separability") if math.isfinite(number(row["auc"]))]
    main = [row for row in rows if row["season"] == findings.season] or rows
    pairs = list(dict.fromkeys((row["case"], row["against"]) for row in main))
    if not pairs:
        return None
    figure = new_figure(8.2, 1.2 + 0.42 * len(pairs))
    axis = figure.subplots()
    axis.axvspan(0.5, 0.7, color=GRID, alpha=0.5, linewidth=0)
    axis.axvline(0.5, color=INK, linewidth=0.9)
    for place, classifier in enumerate(dict.fromkeys(row["classifier"] for row in main)):
        _draw_auc(axis, [row for row in main if row["classifier"] == classifier], pairs, classifier, 0.13 * (2 * place - 1))
    axis.set_yticks(range(len(pairs)), [f"{case} vs {against}" for case, against in pairs], fontsize=8)
    axis.set_ylim(len(pairs) - 0.5, -0.5)
    low = min(number(row["lower"]) if math.isfinite(number(row["lower"])) else number(row["auc"]) for row in main)
    axis.set_xlim(min(0.4, low - 0.02), 1.02)
    axis.set_xlabel("AUC: 0.5 cannot be told apart, 1 always can")
    axis.legend(ncols=2, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    worst = max(main, key=lambda row: number(row["auc"]))
    text = f"Highest: {worst['case']} against {worst['against']} with {worst['classifier']}, {number_words(number(worst['auc']), 2)}"
    return finish(
        figure,
        data,
        "separability",
        rows,
        title="Can GCM and RCMu days be told apart?",
        caption="A classifier is trained to tell days of the two sources apart by their predictors, and judged on years that it has not "
        f"seen; lines are 95 % intervals. In the shade the two are nearly alike. {text}.",
        alt=f"Dot plot of AUC for {len(pairs)} comparisons. {text}.",
        origin="separability.csv",
    )


def _draw_auc(axis: Axes, rows: list[dict[str, str]], pairs: list[tuple[str, str]], classifier: str, offset: float) -> None:
    marker, colour = MARKS.get(classifier, ("s", COLOURS[4]))
    y = np.array([pairs.index((row["case"], row["against"])) for row in rows]) + offset
    axis.scatter([number(row["auc"]) for row in rows], y, marker=marker, s=28, color=colour, label=classifier, zorder=3)
    for place, row in zip(y, rows, strict=True):
        if math.isfinite(number(row["lower"])):
            axis.plot([number(row["lower"]), number(row["upper"])], [place, place], color=colour, linewidth=1.4)


def scales(findings: Findings, data: Path) -> Picture | None:
    """Ratio of power of GCM and RCMu by channel and wavelength."""
    rows = [row for row in findings.table("predictor_scale") if row["season"] == findings.season]
    every = list(dict.fromkeys((row["case"], row["against"]) for row in rows))
    panels = every[:MAX_PANELS]
    if not panels:
        return None
    channels = list(dict.fromkeys(row["channel"] for row in rows))
    columns = min(len(panels), COLUMNS)
    lines = -(-len(panels) // columns)
    figure = new_figure(1.2 + 2.1 * columns, (1.2 + max(0.24 * len(channels), 1.4)) * lines)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    image = None
    for axis, panel in zip(axes, panels, strict=False):
        some = [row for row in rows if (row["case"], row["against"]) == panel]
        waves = sorted({number(row["wavelength_km"]) for row in some}, reverse=True)
        values = np.full((len(channels), len(waves)), np.nan)
        for row in some:
            values[channels.index(row["channel"]), waves.index(number(row["wavelength_km"]))] = number(row["log_power_ratio"])
        image = axis.imshow(values, cmap=diverging("psl"), vmin=-REACH, vmax=REACH, aspect="auto")
        step = max(1, len(waves) // 5)
        axis.set_xticks(range(0, len(waves), step), [f"{wave:.0f}" for wave in waves[::step]], fontsize=7)
        axis.set_yticks(range(len(channels)), channels, fontsize=7.5)
        axis.tick_params(length=0)
        axis.set_xlabel("wavelength, km", fontsize=8)
        axis.set_title(f"{panel[0]}\nvs {panel[1]}", loc="left", fontsize=8)
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes), shrink=0.9, pad=0.01, extend="both", aspect=24)
        bar.set_label("ln of the ratio of power", fontsize=8)
        bar.outline.set_visible(False)
    return finish(
        figure,
        data,
        "predictor_scale",
        rows,
        title="Predictor shift by scale",
        caption="Power of the GCM's daily fields relative to the reference's, by channel and wavelength: blue, the GCM has less variance "
        "at that scale (smoother fields); red, more. Colours saturate at ±1, a factor of 2.7."
        f"{left_out(every, panels, 'comparisons')}",
        alt=f"Heat map of power ratios by channel and wavelength for {len(panels)} comparisons.",
        origin="predictor_scale.csv",
    )


def feature_table(findings: Findings) -> Table | None:
    """Distance of the network's features from those of training."""
    lines = tuple(
        (
            f"{row['run']} on {row['case']}",
            (
                Cell(row["against"]),
                value_cell(row["distance"]),
                value_cell(row["mean_part"]),
                value_cell(row["spread_part"]),
                Cell(row.get("note", "")),
            ),
        )
        for row in findings.table("feature_shift")
        if findings.main and row["run"] == findings.main.name
    )
    columns = ("against", "Fréchet distance", "of the mean", "of the spread", "note")
    return (
        Table("How far the network's features have moved from those of its training days", columns, lines, "run", folded=True)
        if lines
        else None
    )


def consistency_table(findings: Findings) -> Table | None:
    """Whether the emulated field, seen coarsely, agrees with the surface of its own predictors."""
    every = findings.table("consistency", season=findings.season)
    rows = [row for row in every if findings.main and row["run"] == findings.main.name]
    own = {(row["case"], row["variable"]): row for row in every if row["run"] == TRUTH}
    lines = tuple(
        (
            f"{row['variable']} on {row['case']}",
            (
                Cell(findings.source_words(findings.cases[row["case"]]) if row["case"] in findings.cases else row["against"]),
                _amount(row, "bias"),
                _amount(own.get((row["case"], row["variable"])), "bias"),
                value_cell(row["correlation"], 2),
                value_cell(row["slope"], 2),
                _amount(row, "rmse"),
                _amount(own.get((row["case"], row["variable"])), "rmse"),
            ),
        )
        for row in rows
    )
    columns = (
        "against the surface of",
        "bias",
        "bias of the truth itself",
        "daily correlation",
        "slope",
        "RMSE",
        "RMSE of the truth itself",
    )
    title = (
        f"Upscaled emulation of {findings.main.name if findings.main else ''} against the coarse field of the same day. Against RCMu 0 is "
        "right; a GCM's surface is not that of the truth, and the emulation should be as far from it as the truth is, not nearer"
    )
    return Table(title, columns, lines, "case", folded=True) if lines else None


def _amount(row: dict[str, str] | None, name: str) -> Cell:
    return Cell(quantity(number(row[name]), row["unit"]), value=number(row[name])) if row else Cell("–")
