"""The page of files judged against files, under our metric names or under those of the CORDEX ML-Bench."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from downscale.errors import InputDataError
from downscale.evaluate.scorecard import RECIPE, number, read_maps, read_table
from downscale.report import compared, curves, maps, tables
from downscale.report.figure import COLOURS, GREY, Picture, finish, new_figure, save_figure, save_netcdf, styled
from downscale.report.findings import CaseFacts, read_findings
from downscale.report.html import fill, page_folder
from downscale.report.plane import Panel, draw_panels
from downscale.report.sections import IMAGE_BYTES, Section, only, within
from downscale.report.tables import Cell, Table
from downscale.report.words import number as number_words
from downscale.report.words import unit

MLBENCH = "mlbench"
INDICES = ("mean", "q98", "txx", "rx1day", "sdii", "cdd")
"""Indices whose maps are drawn, where the file has them."""
BARE = ("rmse_time", "wasserstein_spatial")
LONGEST_COMMAND = 160
"""Of a command below each figure; a longer one stands once on the page."""
_PLAINER = (
    ("the truth and the emulations", "the reference and the prediction"),
    ("their differences from the truth", "their difference"),
    ("differences from the truth", "difference from the reference"),
    (": those are detail that was not learned", ""),
    ("Mean over the test days", "Mean over the days that are judged"),
    ("emulated minus true against true", "prediction minus reference against reference"),
    ("the emulation", "the prediction"),
    ("An emulator that extrapolates badly shows too weak a change, most of all where the truth changes most.", ""),
    ("and their differences", "and their difference"),
    ("the truth", "the reference"),
    ("truth", "reference"),
)
"""Words for an emulator in a workspace, and those for a prediction that anyone may have made."""


def make_files_report(scores: Path, output: Path, *, command: str = "") -> Path:
    """Draw the page of ``downscale evaluate --prediction ... --reference ...``.

    Args:
        scores: its folder, of either profile.
        output: folder of the page, replaced as a whole: index.html, data/ and figures/.
        command: for scores whose recipe does not say by which they were made.

    Returns:
        path of the page.

    Raises:
        InputDataError: there are no scores.
        OutputExistsError: a link stands in the way.
    """
    if not (scores / RECIPE).exists():
        raise InputDataError("there are no scores to report", where=str(scores), hint="run downscale evaluate --prediction ... first")
    recipe: dict[str, Any] = json.loads((scores / RECIPE).read_text())
    mlbench = recipe.get("profile") == MLBENCH
    command = recipe.get("command") or command or _like(recipe)
    with page_folder(output) as partial, styled():
        sections = within(_mlbench(scores, partial / "data") if mlbench else _default(scores, partial / "data"), IMAGE_BYTES)
        page = fill(
            "files.html.j2",
            sections=sections,
            recipe=recipe,
            summary=recipe.get("summary", {}),
            notes=_notes(recipe.get("notes", [])),
            mlbench=mlbench,
            command=command if len(command) <= LONGEST_COMMAND else f"{command[:LONGEST_COMMAND]}…",
            whole_command=command,
        )
        (partial / "index.html").write_text(page, encoding="utf-8")
    return output / "index.html"


def _like(recipe: dict[str, Any]) -> str:
    """The command of scores that were made before recipes held it, as far as it is known."""
    profile = " --profile mlbench" if recipe.get("profile") == MLBENCH else ""
    region = recipe.get("inputs", {}).get("region", {}).get("name", "all")
    options = {name: value for name, value in recipe.get("inputs", {}).get("options", {}).items() if value}
    told = [f"region {region}"] * (region != "all") + [f"{name.replace('_', ' ')} {value}" for name, value in options.items()]
    return f"downscale evaluate --prediction FILE... --reference FILE... -o DIR{profile}" + (f" ({'; '.join(told)})" if told else "")


def _notes(notes: Any) -> list[str]:
    return [line for lines in notes.values() for line in lines] if isinstance(notes, dict) else list(notes)


def _default(scores: Path, data: Path) -> list[Section]:
    """A section per variable: scores by season, maps, spectra and quantiles."""
    findings = read_findings(scores)
    case = findings.home
    sections = []
    for variable in findings.targets if case is not None else []:
        assert case is not None
        found = [
            maps.mean_maps(findings, case, variable, data),
            curves.distribution(findings, case, variable, data),
            maps.change_maps(findings, case, variable, data),
        ]
        shown = [
            tables.case_table(findings, case, variable),
            tables.case_table(findings, case, variable, more=True),
            compared.season_table(findings, case, variable),
        ]
        pictures = [_of_files(picture, case) for picture in only(found)]
        scores_of = [_captioned(table, variable, case) for table in only(shown)]
        sections.append(Section(variable, variable, "", tuple(scores_of), tuple(pictures)))
    return [section for section in sections if section.tables or section.pictures]


def _of_files(picture: Picture, case: CaseFacts) -> Picture:
    """A figure of a workspace in words that fit any prediction."""
    title, caption, alt = picture.title.removesuffix(f": {case.group}"), picture.caption, picture.alt.replace(f" for {case.name}", "")
    for theirs, ours in _PLAINER:
        title, caption, alt = (text.replace(theirs, ours) for text in (title, caption, alt))
    return replace(picture, title=title, caption=caption.strip(), alt=alt)


def _captioned(table: Table, variable: str, case: CaseFacts) -> Table:
    what = "by season" if table.columns == case.seasons else "more scores" if table.folded else "scores"
    rows = tuple((header.replace("(truth ", "(reference "), cells) for header, cells in table.rows)
    return replace(table, caption=f"{variable}: {what}, area means over {case.n_days:,} days", rows=rows)


def _mlbench(scores: Path, data: Path) -> list[Section]:
    """A section per variable: the benchmark's numbers by season, maps of its indices, spectra."""
    rows, dataset = read_table(scores / "scores.csv"), read_maps(scores / "scores.nc")
    sections = []
    for variable in dict.fromkeys(row["variable"] for row in rows):
        some = [row for row in rows if row["variable"] == variable]
        pictures = [_index_maps(dataset, variable, name, data) for name in INDICES]
        pictures += [_bare_maps(dataset, variable, data), _spectrum(dataset, variable, data)]
        sections.append(Section(variable, variable, "", (_number_table(variable, some),), only(pictures)))
    return sections


def _number_table(variable: str, rows: list[dict[str, str]]) -> Table:
    seasons = list(dict.fromkeys(row["season"] for row in rows))
    found = {(row["metric"], row["season"]): row for row in rows}
    names = list(dict.fromkeys(row["metric"] for row in rows))
    units = {row["metric"]: unit(row.get("unit", "")) for row in rows}
    lines = tuple(
        (f"{name}, {units[name]}" if units[name] else name, tuple(_number(found.get((name, season))) for season in seasons))
        for name in names
    )
    missing = sum(int(number(row["n_missing"]) or 0) for row in rows)
    note = f"; cells without a value are NaN and left out ({missing:,} in all rows together)" if missing else ""
    return Table(f"{variable}: diagnostics by season; below, the range over cells{note}", tuple(seasons), lines, "diagnostic")


def _number(row: dict[str, str] | None) -> Cell:
    if row is None:
        return Cell("–", value=math.nan)
    value = number(row["value"])
    shown = value if math.isfinite(value) else number(row["mean"])
    low, high = number(row["minimum"]), number(row["maximum"])
    below = f"{number_words(low, 2)} … {number_words(high, 2)}" if low < high else ""
    return Cell(number_words(shown), below, value=shown)


def _map(dataset: xr.Dataset, *names: str) -> np.ndarray | None:
    key = "__".join(names)
    return np.asarray(dataset[key].values) if key in dataset and dataset[key].ndim == 2 else None


def _in_units(words: str, dataset: xr.Dataset, key: str) -> str:
    """Words with the unit of a map or spectrum, where the file says one."""
    units = unit(str(dataset[key].attrs.get("units", "1")))
    return f"{words}, {units}" if units else words


def _plane(dataset: xr.Dataset) -> xr.Dataset:
    return xr.Dataset({key: (("y", "x"), np.asarray(dataset[key].values)) for key in ("lat", "lon") if key in dataset.variables})


def _index_maps(dataset: xr.Dataset, variable: str, name: str, data: Path) -> Picture | None:
    truth, ours = (_map(dataset, f"index_{name}_{which}", variable, "all") for which in ("truth", "pred"))
    bias = _map(dataset, f"bias_{name}", variable, "all")
    if truth is None or ours is None or bias is None or not np.isfinite(truth).any():
        return None
    rows: list[list[Panel | None]] = [
        [Panel("reference", truth, "field"), Panel("prediction", ours, "field")],
        [None, Panel(f"bias_{name}", bias, "difference")],
    ]
    keys = [f"{stem}__{variable}__all" for stem in _stems(name)]
    labels = {"field": _in_units(f"{name} of {variable}", dataset, keys[0]), "difference": _in_units(f"bias_{name}", dataset, keys[2])}
    figure = draw_panels(_plane(dataset), rows, variable, labels)
    return Picture(
        f"{name}_{variable}",
        f"{name} of {variable}, all seasons",
        "Top: the index of the reference and of the prediction on one scale; bottom: the diagnostic as the benchmark defines it.",
        f"Maps of the index {name} of {variable}: reference, prediction and their bias.",
        save_figure(figure, data, f"{name}_{variable}"),
        save_netcdf(data, f"{name}_{variable}", dataset[keys]),
        "scores.nc",
    )


def _stems(name: str) -> tuple[str, str, str]:
    return f"index_{name}_truth", f"index_{name}_pred", f"bias_{name}"


def _bare_maps(dataset: xr.Dataset, variable: str, data: Path) -> Picture | None:
    found = {name: values for name in BARE if (values := _map(dataset, name, variable, "all")) is not None}
    if not found:
        return None
    rows: list[list[Panel | None]] = [[Panel(name, values, name)] for name, values in found.items()]
    labels = {name: _in_units(name, dataset, f"{name}__{variable}__all") for name in found}
    figure = draw_panels(_plane(dataset), rows, "error", labels)
    stem = f"errors_{variable}"
    return Picture(
        stem,
        f"Errors of {variable}, all seasons",
        f"{', '.join(found)} at each cell.",
        f"Maps of {', '.join(found)} of {variable}.",
        save_figure(figure, data, stem),
        save_netcdf(data, stem, dataset[[f"{name}__{variable}__all" for name in found]]),
        "scores.nc",
    )


def _spectrum(dataset: xr.Dataset, variable: str, data: Path) -> Picture | None:
    keys = [f"psd_{which}__{variable}__all" for which in ("truth", "pred")]
    if not all(key in dataset for key in keys):
        return None
    truth, ours = (np.asarray(dataset[key].values, dtype=float) for key in keys)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(truth > 0, ours / truth, np.nan)
    figure = new_figure(6.4, 3.0)
    axis = figure.subplots()
    axis.plot(np.arange(len(ratio)), ratio, marker="o", markersize=3, color=COLOURS[0])
    axis.axhline(1.0, color=GREY, linewidth=0.9)
    axis.set_yscale("log")
    curves.plain_ticks(axis.yaxis)
    axis.set_xlabel("ring (wavenumber)")
    axis.set_ylabel("psd_pred / psd_truth")
    axis.grid(True)
    rows = [
        {"ring": ring, "psd_truth": float(one), "psd_pred": float(other)} for ring, (one, other) in enumerate(zip(truth, ours, strict=True))
    ]
    return finish(
        figure,
        data,
        f"psd_{variable}",
        rows,
        title=f"Power spectrum of {variable}, all seasons",
        caption="Power of the prediction's daily fields relative to the reference's, by ring of wavenumber; below 1 it is too smooth.",
        alt=f"Line of the ratio of power spectra of {variable} by wavenumber.",
        origin="scores.nc",
    )
