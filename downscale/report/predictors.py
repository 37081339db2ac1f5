"""The page of `downscale evaluate CONFIG --predictors`: how GCM and RCMu agree, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from downscale.errors import InputDataError
from downscale.evaluate.scorecard import RECIPE, Scorecard, read_table
from downscale.report import agreement, panels
from downscale.report.figure import styled
from downscale.report.findings import Findings
from downscale.report.html import fill, page_folder
from downscale.report.sections import IMAGE_BYTES, Section, only, within
from downscale.report.tables import Cell, Table, count_cell, value_cell
from downscale.report.words import SEASONS

SHIFT_NUMBERS = {
    "shift": "shift d",
    "abs_shift": "mean |d|",
    "log_std_ratio": "ln of spread ratio",
    "abs_log_std_ratio": "mean |ln ratio|",
    "w1": "W1 / sd",
    "correlation": "daily correlation",
}
TABLES = ("predictor_shift", "predictor_scale", "separability", "reading")
SUMMARY = "summary"
COMMAND = "downscale evaluate CONFIG --predictors"
FOLDER = "report"


def make_predictor_page(folder: Path, *, command: str = COMMAND) -> Path:
    """Draw FOLDER/report/index.html from the tables of a consistency folder.

    Args:
        folder: with predictor_shift.csv, and predictor_scale.csv, separability.csv and reading.csv where they are.
        command: as it was given, for the page.

    Returns:
        path of the page.

    Raises:
        InputDataError: nothing was compared there.
        OutputExistsError: a link stands in the way.
    """
    if not (folder / RECIPE).exists():
        raise InputDataError("there is no comparison of predictors", where=str(folder), hint="run downscale evaluate CONFIG --predictors")
    tables = {name: read_table(folder / f"{name}.csv") for name in TABLES}
    seasons = [row["season"] for row in tables["predictor_shift"]]
    card = Scorecard([], {"main_season": "ANN" if "ANN" in seasons else (seasons or ["ANN"])[0]})
    findings = Findings(folder, card, {}, {}, tables, xr.Dataset(), xr.Dataset())
    with page_folder(folder / FOLDER) as partial, styled():
        sections = within(_sections(findings, partial / "data"), IMAGE_BYTES)
        page = fill("predictors.html.j2", sections=sections, readings=readings(findings), command=command)
        (partial / "index.html").write_text(page, encoding="utf-8")
    return folder / FOLDER / "index.html"


@dataclass(frozen=True)
class Reading:
    """One comparison in words: of what against what, its light and verdict, and the sentences behind it."""

    title: str
    light: str
    verdict: str
    sentences: tuple[str, ...]


def readings(findings: Findings) -> list[Reading]:
    """The comparisons of reading.csv, in its order."""
    rows = findings.table("reading")
    result = []
    for case, against in dict.fromkeys((row["case"], row["against"]) for row in rows):
        mine = [row for row in rows if (row["case"], row["against"]) == (case, against)]
        last = next((row for row in mine if row["topic"] == SUMMARY), mine[-1])
        sentences = tuple(row["text"] for row in mine if row["topic"] != SUMMARY)
        result.append(Reading(f"{case} against {against}", last["light"], last["text"], sentences))
    return result


def _sections(findings: Findings, data: Path) -> list[Section]:
    season = SEASONS.get(findings.season, findings.season)
    pictures = [panels.predictor_shift(findings, data), agreement.separability(findings, data), agreement.scales(findings, data)]
    text = (
        "paired: the GCM against the RCMu of the RCM that it drove, same days, so that a difference is inconsistency of the two. "
        "Not paired: against the training days of another run, so that it also holds the difference of two climates."
    )
    found = [
        Section("agreement", "How GCM and RCMu agree", text, (), only(pictures)),
        Section("numbers", "Channel by channel", f"Sorted by the largest difference, {season}.", only([shift_table(findings)])),
    ]
    return [section for section in found if section.tables or section.pictures]


def shift_table(findings: Findings) -> Table | None:
    """Predictor shift of the main season by channel, the largest first."""
    rows = sorted(findings.table("predictor_shift", season=findings.season), key=lambda row: -abs(value_cell(row["shift"]).value or 0.0))
    names = {key: name for key, name in SHIFT_NUMBERS.items() if rows and key in rows[0]}
    lines = tuple(
        (
            f"{row['channel']}: {row['case']}",
            (
                Cell(row["against"]),
                Cell("yes" if row["paired"] == "1" else "no"),
                *(value_cell(row[key], 2) for key in names),
                count_cell(row["n_days"]),
            ),
        )
        for row in rows
    )
    columns = ("against", "paired", *names.values(), "days")
    return Table("Difference of each predictor in units of its daily standard deviation", columns, lines, "channel") if lines else None
