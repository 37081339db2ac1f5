"""The traffic light by run and case with its rules, and which cells of GCM x RCM x scenario are filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from downscale.report.figure import GREY, INK, Picture, finish, new_figure
from downscale.report.findings import Findings, ordered
from downscale.report.tables import Cell, Table, value_cell
from downscale.report.words import left_out

VERDICT = "verdict"
MAX_SCENARIOS, MANY_GCMS = 4, 12
WORDS = {"green": "no objection", "yellow": "with care", "red": "do not trust", "unknown": "not known"}
STATES = {
    "simulated": ("#31566d", "white"),
    "trusted": ("#1f7a4d", "white"),
    "emulated": ("#a9cfe0", INK),
    "doubtful": ("#edae49", INK),
    "missing": ("#f4f6f8", GREY),
}
"""From the best known to the least: colour of the cell, colour of its text."""


@dataclass(frozen=True)
class Light:
    """A light of the verdict: its colour, the colour in words, why, how it was checked, and what it does not know."""

    light: str
    word: str
    text: str
    checked: str
    unknown: str


def lights(findings: Findings) -> tuple[Light, ...]:
    """The verdict's lights of the main run, GCMs without truth first."""
    rows = findings.table("light", rule=VERDICT, run=findings.main.name) if findings.main else []
    known = {name: case.truth for name, case in findings.cases.items()}
    return tuple(_light(findings, row) for row in sorted(rows, key=lambda row: (known.get(row["case"], False), row["case"])))


def _light(findings: Findings, row: dict[str, str]) -> Light:
    """The first sentence of the reading is why; the others say what the light does not know."""
    case, light = findings.cases.get(row["case"]), row["light"]
    name = f"{findings.source_words(case)} ({row['case']})" if case is not None else row["case"]
    why, _, unknown = row["reading"].removeprefix(f"{light.capitalize()}: ").partition(". ")
    word = f"{light}: {WORDS[light]}" if light in WORDS else light
    return Light(light, word, f"{name}: {why.rstrip('.')}.", row.get("calibration", ""), unknown)


def doubts(findings: Findings) -> list[str]:
    """What the lights do not know, each once."""
    return list(dict.fromkeys(one.unknown for one in lights(findings) if one.unknown))


def lights_table(findings: Findings) -> Table | None:
    """Lights of all runs on all cases."""
    rows = findings.table("light", rule=VERDICT)
    found = {(row["run"], row["case"]): row["light"] for row in rows}
    runs = [run for run in ordered(findings.runs.values()) if any(run.name == key[0] for key in found)]
    cases = sorted({row["case"] for row in rows})
    if not runs or len(found) < 2:
        return None
    lines = tuple((run.name, tuple(_light_cell(found.get((run.name, case), "")) for case in cases)) for run in runs)
    return Table("Lights of every run on every case", tuple(cases), lines, "run")


def _light_cell(light: str) -> Cell:
    return Cell(light or "–", tone=light)


def rules_table(findings: Findings) -> Table | None:
    """Why the main run's lights have their colours."""
    rows = [row for row in findings.table("light", run=findings.main.name) if row["rule"] != VERDICT] if findings.main else []
    notes = sorted({row.get("calibration", "") for row in rows})
    checked = len(notes) > 1
    lines = tuple(
        (
            f"{row['case']}: {row['rule'].replace('_', ' ')}",
            (
                value_cell(row["value"], 2),
                value_cell(row["yellow"], 2),
                value_cell(row["red"], 2),
                _light_cell(row["light"]),
                Cell(row["reading"]),
                *([Cell(row["calibration"])] if checked else []),
            ),
        )
        for row in rows
    )
    if not lines or findings.main is None:
        return None
    columns = ("value", "yellow above", "red above", "light", "reading", *(["checked by leaving a GCM out"] if checked else []))
    same = f": {notes[0]}" if notes[0] and not checked else ""
    return Table(f"Rules behind the lights of {findings.main.name}{same}", columns, lines, "rule")


def matrix_picture(findings: Findings, data: Path) -> Picture | None:
    """GCMs against RCMs, a panel per scenario; a cell says how it is filled."""
    rows = findings.table("matrix")
    if not rows:
        return None
    every = list(dict.fromkeys(row["scenario"] for row in rows))
    scenarios = every[:MAX_SCENARIOS]
    gcms = sorted({_gcm(row) for row in rows})
    rcms = sorted({row["rcm"] for row in rows})
    row_height = 0.62 if len(gcms) <= MANY_GCMS else 0.26
    figure = new_figure(1.6 + len(scenarios) * max(1.5 * len(rcms), 2.2), 0.8 + row_height * len(gcms))
    axes = figure.subplots(1, len(scenarios), squeeze=False, sharey=True)[0]
    for axis, scenario in zip(axes, scenarios, strict=True):
        _draw_matrix(axis, [row for row in rows if row["scenario"] == scenario], gcms, rcms)
        axis.set_title(scenario or "any scenario", loc="left")
    counts = {
        state: sum(_cell(rows, *cell)["state"] == state for cell in {(_gcm(row), row["rcm"], row["scenario"]) for row in rows})
        for state in STATES
    }
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return finish(
        figure,
        data,
        "gcm_rcm_matrix",
        rows,
        title="GCM × RCM × scenario",
        caption=f"Cells of the matrix: {text}. Simulated: an RCM run is there. Trusted: emulated, and the light is green. Doubtful: "
        "emulated, and the light is yellow or red. Emulated: no light could be given. Where several emulations fill a cell, the colour is "
        f"that of the run of the verdict, and the others are counted below the years.{left_out(every, scenarios, 'scenarios')}",
        alt=f"Matrix of {len(gcms)} GCMs and {len(rcms)} RCMs in {len(scenarios)} scenarios: {text}.",
        origin="matrix.csv",
    )


def _gcm(row: dict[str, str]) -> str:
    return f"{row['gcm']} {row['member']}".strip()


def _cell(rows: Sequence[dict[str, str]], gcm: str, rcm: str, scenario: str) -> dict[str, str]:
    found = (row for row in rows if (_gcm(row), row["rcm"], row["scenario"]) == (gcm, rcm, scenario))
    return next(found, {"state": "missing", "years": ""})


def _draw_matrix(axis: Axes, rows: Sequence[dict[str, str]], gcms: Sequence[str], rcms: Sequence[str]) -> None:
    for y, gcm in enumerate(gcms):
        for x, rcm in enumerate(rcms):
            found = _cell(rows, gcm, rcm, rows[0]["scenario"])
            state = found["state"]
            face, text = STATES.get(state, STATES["missing"])
            axis.add_patch(
                Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, facecolor=face, edgecolor="white", hatch="//" if state == "missing" else "")
            )
            below = [found["years"], f"others: {found['others']}" if found.get("others") else ""] if state != "missing" else []
            words = [state, *filter(None, below)]
            axis.text(x, y, ("\n" if len(gcms) <= MANY_GCMS else "  ").join(words), ha="center", va="center", fontsize=6.5, color=text)
    axis.set_xlim(-0.5, len(rcms) - 0.5)
    axis.set_ylim(len(gcms) - 0.5, -0.5)
    axis.set_xticks(np.arange(len(rcms)), rcms, fontsize=8)
    axis.set_yticks(np.arange(len(gcms)), gcms, fontsize=8)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def matrix_table(findings: Findings) -> Table | None:
    """The rows of the matrix, with the run that fills a cell."""
    rows = findings.table("matrix")
    lines = tuple(
        (
            _gcm(row),
            (Cell(row["rcm"]), Cell(row["scenario"]), Cell(row["years"]), _state_cell(row["state"]), Cell(row["run"]), Cell(row["case"]),
             _light_cell(row["light"]), Cell(row.get("others", ""))),
        )
        for row in rows
    )  # fmt: skip
    columns = ("RCM", "scenario", "years", "state", "run", "case", "light", "other emulations")
    return Table(f"Cells of GCM × RCM × scenario ({len(lines)})", columns, lines, "GCM", folded=True) if lines else None


def missing_table(findings: Findings) -> Table | None:
    """Cells of the transfer matrix without a prediction, with the command that fills them."""
    lines = tuple((f"{row['run']} on {row['case']}", (Cell(row["command"]),)) for row in findings.table("transfer_missing"))
    return Table("Cells of the transfer matrix that are empty", ("filled by",), lines, "cell", folded=True) if lines else None


def _state_cell(state: str) -> Cell:
    return Cell(state, tone={"trusted": "green", "doubtful": "yellow", "missing": "unknown"}.get(state, ""))
