"""The page: read scores, draw, fill the template, publish."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from downscale.config.schema import ExperimentConfig
from downscale.errors import OutputExistsError
from downscale.report import curves, maps, panels, tables
from downscale.report.figure import Picture, styled
from downscale.report.findings import CaseFacts, Findings, read_findings
from downscale.report.tables import Table
from downscale.report.verdict import verdict

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
FOLDER = "report"


@dataclass(frozen=True)
class Section:
    """A part of the page: heading, an introduction, tables and figures."""

    anchor: str
    title: str
    text: str
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()


def make_report(cfg: ExperimentConfig, progress: ProgressCallback | None = None) -> Path:
    """Draw WORKSPACE/report/index.html and the data of its figures from WORKSPACE/scores.

    Args:
        cfg: the experiment.
        progress: called with (done, total, note).

    Returns:
        path of the page; the folder is replaced as a whole.

    Raises:
        InputDataError: there are no scores.
        OutputExistsError: a link stands in the way.
    """
    workspace = cfg.workspace_path()
    findings = read_findings(workspace / "scores")
    folder = workspace / FOLDER
    partial = folder.with_name(f"{FOLDER}.partial")
    for one in (folder, partial):
        if one.is_symlink():
            raise OutputExistsError(
                "a symbolic link stands where the report is written", where=f"{one} -> {one.readlink()}", hint="remove it"
            )
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    try:
        sections = make_sections(findings, partial / "data", progress or _silent)
        (partial / "index.html").write_text(render(findings, sections), encoding="utf-8")
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _replace(partial, folder)
    log.info("report: %s, %.1f MB", folder / "index.html", (folder / "index.html").stat().st_size / 1e6)
    return folder / "index.html"


def _replace(partial: Path, folder: Path) -> None:
    old = folder.with_name(f"{FOLDER}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _silent(done: int, total: int, note: str) -> None:
    return None


def make_sections(findings: Findings, data: Path, progress: ProgressCallback) -> list[Section]:
    """All sections that have something to show; figures' data go to ``data``."""
    makers: list[tuple[str, Callable[[Findings, Path], Section]]] = [
        ("skill", _skill),
        ("transfer", _transfer),
        ("no truth", _without_truth),
    ]
    sections = [Section("runs", "What was trained on what", "", (tables.runs_table(findings), tables.cases_table(findings)))]
    with styled():
        for number, (name, maker) in enumerate(makers):
            progress(number, len(makers), name)
            section = maker(findings, data)
            if section.tables or section.pictures:
                sections.append(section)
    progress(len(makers), len(makers), "page")
    return sections


def _skill(findings: Findings, data: Path) -> Section:
    case = findings.home
    if case is None:
        return Section("skill", "", "")
    same = (
        "They are paired with the observations by day, so daily errors mean something here. "
        if findings.is_observed(case)
        else "Weather is the same on both sides when the predictors are RCMu, so daily errors mean something here. "
    )
    text = (
        f"Predictors: {findings.source_words(case)}, test days only. {same}"
        "The best value of a row is bold; below a value stands its 95 % interval, where the years allow one."
    )
    return Section(
        "skill",
        f"Skill at home: {case.name}",
        text,
        _of(tables.case_table(findings, case, variable) for variable in findings.targets),
        _pictures(findings, case, data),
    )


def _pictures(findings: Findings, case: CaseFacts, data: Path) -> tuple[Picture, ...]:
    found: list[Picture | None] = []
    for variable in findings.targets:
        found += [
            maps.mean_maps(findings, case, variable, data),
            curves.distribution(findings, case, variable, data),
            maps.change_maps(findings, case, variable, data),
        ]
    return _of([*found, curves.change_scatter(findings, case, data)])


def _transfer(findings: Findings, data: Path) -> Section:
    cases = findings.transfers[:1]
    found: list[Picture | None] = [panels.predictor_shift(findings, data), panels.error_split(findings, data)]
    for case in cases:
        for variable in findings.targets:
            found += [maps.mean_maps(findings, case, variable, data), curves.distribution(findings, case, variable, data)]
        found.append(curves.change_scatter(findings, case, data))
    if len(findings.cases) > 1:
        found += [panels.transfer_matrix(findings, variable, data) for variable in findings.targets]
    scores = [tables.case_table(findings, case, variable) for case in cases for variable in findings.targets]
    text = (
        "How far the GCM's fields are from what was learned, how much of the error that makes, and what training on a few of its "
        "years repairs."
        if cases
        else (
            "There is no case with truth from a GCM's own fields that the main run was not trained on; what can be said without "
            "one follows."
        )
    )
    return Section(
        "transfer",
        "Transfer to GCM fields",
        text,
        _of([*scores, *tables.recovery_tables(findings), tables.signal_table(findings)]),
        _of(found),
    )


def _without_truth(findings: Findings, data: Path) -> Section:
    cases = findings.without_truth
    shown = [(case, variable) for case in cases for variable in findings.targets]
    text = "No RCM has simulated these: the numbers describe the emulated climate and judge nothing."
    return Section(
        "blind",
        "GCMs without truth",
        text,
        _of(tables.climate_table(findings, case, variable) for case, variable in shown),
        _of(maps.climate_maps(findings, case, variable, data) for case, variable in shown),
    )


def _of(items: Any) -> tuple[Any, ...]:
    return tuple(item for item in items if item is not None)


def render(findings: Findings, sections: list[Section]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    recipe = findings.card.recipe
    return environment.get_template("page.html.j2").render(
        verdict=verdict(findings),
        sections=sections,
        recipe=recipe,
        targets=", ".join(findings.targets),
        channels=", ".join(recipe.get("channels", [])),
        split=recipe.get("inputs", {}).get("split", {}),
        notes=recipe.get("notes", {}),
        n_scores=len(findings.card.scores),
    )
