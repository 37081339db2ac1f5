"""The sections of the page, in the order of a reader's questions: may I trust it, how good is it at home, what is lost on a GCM, why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from downscale.report import (
    agreement,
    attribution,
    compared,
    curves,
    extremes,
    few_shot,
    maps,
    members,
    outside,
    panels,
    regimes,
    tables,
    trust,
    warming,
)
from downscale.report.figure import Picture, styled
from downscale.report.findings import CaseFacts, Findings
from downscale.report.tables import Table

ProgressCallback = Callable[[int, int, str], None]
IMAGE_BYTES = 3_400_000
"""Of all images on the page; base64 makes a third more of them."""
MAX_BLIND = 4


@dataclass(frozen=True)
class Section:
    """A part of the page: heading, an introduction, tables and figures; without any it is left out unless it is to be kept."""

    anchor: str
    title: str
    text: str
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    keep: bool = False


def make_sections(findings: Findings, data: Path, progress: ProgressCallback) -> list[Section]:
    """All sections that have something to show; figures' data go to ``data``, the figures beside it."""
    makers: list[tuple[str, Callable[[Findings, Path], Section]]] = [
        ("trust", _trust),
        ("skill", _skill),
        ("transfer", _transfer),
        ("predictors", _predictors),
        ("outside", _outside),
        ("inputs", _inputs),
        ("regimes", _regimes),
        ("extremes", _extremes),
        ("few years", _few_shot),
        ("no truth", _without_truth),
        ("runs", _runs),
    ]
    sections = []
    with styled():
        for number, (name, maker) in enumerate(makers):
            progress(number, len(makers), name)
            section = maker(findings, data)
            if section.tables or section.pictures or section.keep:
                sections.append(section)
    progress(len(makers), len(makers), "page")
    return within(sections, IMAGE_BYTES)


def within(sections: Iterable[Section], limit: int) -> list[Section]:
    """The sections with the images that fit into ``limit`` bytes, first come first; the page links to the others."""
    result, used = [], 0
    for section in sections:
        pictures = []
        for picture in section.pictures:
            fits = used + len(picture.png) <= limit
            used += len(picture.png) if fits else 0
            pictures.append(picture if fits else replace(picture, png=b""))
        result.append(replace(section, pictures=tuple(pictures)))
    return result


def only(items: Iterable[Any]) -> tuple[Any, ...]:
    """Those that are not None."""
    return tuple(item for item in items if item is not None)


def _trust(findings: Findings, data: Path) -> Section:
    text = (
        "A light sums up what can be said of an emulator on a GCM without having the truth there: how far the GCM's fields lie from "
        "those learned from, how well the two can be told apart, how many days lie outside. Its rules stand in the config "
        "(evaluate.light)."
    )
    return Section(
        "trust",
        "Where it may be trusted",
        text,
        only([trust.lights_table(findings), trust.rules_table(findings), trust.matrix_table(findings), trust.missing_table(findings)]),
        only([trust.matrix_picture(findings, data)]),
    )


def _runs(findings: Findings, data: Path) -> Section:
    return Section("runs", "What was trained on what", "", (tables.runs_table(findings), tables.cases_table(findings)))


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
    shown = [tables.case_table(findings, case, variable, more=more) for more in (False, True) for variable in findings.targets]
    more = [compared.paired_table(findings, case), compared.regions_table(findings, case)]
    more += [compared.season_table(findings, case, variable) for variable in findings.targets]
    pictures = [*_pictures(findings, case, data), members.rank_histograms(findings, data), members.reliability(findings, data)]
    return Section("skill", f"Skill at home: {case.name}", text, only([*shown, *more]), only(pictures))


def _pictures(findings: Findings, case: CaseFacts, data: Path) -> list[Picture | None]:
    found: list[Picture | None] = []
    for variable in findings.targets:
        found += [
            maps.mean_maps(findings, case, variable, data),
            curves.distribution(findings, case, variable, data),
            maps.change_maps(findings, case, variable, data),
        ]
    return [*found, curves.change_scatter(findings, case, data)]


def _transfer(findings: Findings, data: Path) -> Section:
    cases = findings.transfers[:1]
    found: list[Picture | None] = [panels.error_split(findings, data)]
    if len(findings.cases) > 1:
        found += [panels.transfer_matrix(findings, variable, data) for variable in findings.targets]
    for case in cases:
        for variable in findings.targets:
            found += [maps.mean_maps(findings, case, variable, data), curves.distribution(findings, case, variable, data)]
        found.append(curves.change_scatter(findings, case, data))
    found += [warming.extrapolation(findings, variable, data) for variable in findings.targets]
    scores = [
        tables.case_table(findings, case, variable, more=more) for case in cases for more in (False, True) for variable in findings.targets
    ]
    more = [*tables.recovery_tables(findings), tables.signal_table(findings), *warming.ensemble_tables(findings)]
    text = (
        "What happens when the predictors are a GCM's own fields: how much of the error the GCM's inconsistency with the RCM makes, "
        "which emulator moves where, and whether change signals survive."
        if cases
        else "There is no case with truth from a GCM's own fields that the main run was not trained on. What "
        "follows is of the cases that have truth, and says nothing of a new GCM."
    )
    return Section("transfer", "Transfer to GCM fields", text, only([*scores, *more]), only(found))


def _predictors(findings: Findings, data: Path) -> Section:
    title, text = predictor_words(findings)
    pictures = [
        panels.predictor_shift(findings, data),
        agreement.separability(findings, data),
        agreement.scales(findings, data),
    ]
    more = [agreement.feature_table(findings), agreement.consistency_table(findings)]
    return Section("predictors", title, text, only(more), only(pictures))


def predictor_words(findings: Findings) -> tuple[str, str]:
    """Heading and introduction of the comparison of predictors; only observations have no RCMu to compare with."""
    if findings.cases and all(findings.is_observed(case) for case in findings.cases.values()):
        return "Predictors beside those of the training", (
            "How far the predictors of the days that are judged are from those that were learned from, before any emulator is asked. "
            "There is no RCMu beside observations to compare with."
        )
    return "How GCM and RCMu agree", (
        "How far the GCM's fields are from what was learned, before any emulator is asked. Against the RCMu of the RCM that the GCM "
        "drove, a difference is inconsistency; against another run's RCMu it also holds the difference of two climates."
    )


def _outside(findings: Findings, data: Path) -> Section:
    text = (
        "Each day has a score: its distance from the training days. A day is flagged when fewer than one in 200 of the held-out "
        "training days lay as far out, in their predictors or in the network's features. Flags that rise with time say that the "
        "emulator is asked for weather it has not seen."
    )
    return Section(
        "outside",
        "Days outside what was learned",
        text,
        only([outside.period_table(findings)]),
        only([outside.through_time(findings, data), outside.against_error(findings, data)]),
    )


def _inputs(findings: Findings, data: Path) -> Section:
    text = (
        "What the emulator does when one input changes and the others stay, and which inputs it reads. An importance is no proof of "
        "a cause: channels that vary together share it."
    )
    pictures = [attribution.sensitivity(findings, data), *(attribution.importance(findings, one, data) for one in findings.targets)]
    return Section("inputs", "What it listens to", text, only([attribution.rank_table(findings)]), only(pictures))


def _regimes(findings: Findings, data: Path) -> Section:
    text = (
        "Weather regimes of the training run's large scale, found in RCMu and assigned to every case, so that a bad score can be "
        "traced to rare or new weather."
    )
    pictures = [regimes.composites(findings, data), regimes.frequencies(findings, data), *regimes.scores(findings, data)]
    return Section("regimes", "Weather regimes", text, only([regimes.stability_table(findings)]), only(pictures))


def _extremes(findings: Findings, data: Path) -> Section:
    text = (
        "Values that are exceeded once in so many years, from annual (or seasonal) maxima; pooled over all emulated series where a "
        "test does not tell them apart. Intervals resample whole years."
    )
    reason = extremes.why_none(findings)
    if reason:
        return Section("extremes", "Rare extremes", f"No return level is given: {reason}.", keep=True)
    pictures = [extremes.return_levels(findings, variable, data) for variable in findings.targets]
    return Section("extremes", "Rare extremes", text, only([extremes.level_table(findings)]), only(pictures))


def _few_shot(findings: Findings, data: Path) -> Section:
    text = "How the error falls when the emulator may learn from a few years of truth of the new GCM."
    return Section("few-shot", "Learning from a few years", text, (), only(few_shot.pictures(findings, data)))


def _without_truth(findings: Findings, data: Path) -> Section:
    cases = findings.without_truth
    shown = [(case, variable) for case in cases for variable in findings.targets]
    text = "No RCM has simulated these: the numbers describe the emulated climate and judge nothing."
    return Section(
        "blind",
        "GCMs without truth",
        text,
        only(tables.climate_table(findings, case, variable) for case, variable in shown),
        only(maps.climate_maps(findings, case, variable, data) for case, variable in shown if case in cases[:MAX_BLIND]),
    )
