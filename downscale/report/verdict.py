"""Two sentences a scientist would sign, and what they do not say: rules on the scores, no judgement of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from downscale.evaluate.scorecard import number
from downscale.report.findings import CaseFacts, Findings, RunFacts, largest_shift
from downscale.report.trust import Light, doubts, lights
from downscale.report.words import SEASONS, date, listed, percent, quantity

FEW_YEARS = 10
STRONG_SHIFT = 0.5
SAME_SKILL = 0.02
MAX_DOUBTS = 3


@dataclass(frozen=True)
class Verdict:
    """The sentences, the lights, and the caveats below them."""

    sentences: tuple[str, ...]
    caveats: tuple[str, ...]
    lights: tuple[Light, ...] = ()


def verdict(findings: Findings) -> Verdict:
    """The verdict on the main emulator of a workspace."""
    if findings.main is None:
        return Verdict(("There is no emulator among the predictions: the tables below compare baselines only.",), tuple(_caveats(findings)))
    sentences = (_at_home(findings, findings.main), _abroad(findings, findings.main))
    return Verdict(sentences, tuple(_caveats(findings)), lights(findings))


def _at_home(findings: Findings, main: RunFacts) -> str:
    home = findings.home
    if home is None:
        return f"{main.name} has no predictions where there is a truth, so its skill is unknown."
    parts = [part for part in (_accuracy(findings, main, home, variable) for variable in findings.targets) if part]
    if not parts:
        return f"{main.name} has no finite scores on {findings.source_words(home)}."
    seen = "a source it learned from in other years" if home.name in main.trained_on else "which it was not trained on"
    days = f"the {home.n_days:,} test days ({listed(list(home.periods))}, {_season_words(home)})"
    return f"On {days} of {findings.source_words(home)}, {seen}, {main.name} reproduces {'; '.join(parts)}."


def _accuracy(findings: Findings, main: RunFacts, case: CaseFacts, variable: str) -> str:
    """'tasmax within 0.41 K (RMSE; ridge 0.71 K, bilinear 1.5 K), clearly better than ridge'."""
    score = findings.card.get(main.name, case.name, variable, "rmse")
    if score is None or not math.isfinite(score.value):
        return ""
    beside = [
        f"{run.model} {quantity(findings.card.value(run.name, case.name, variable, 'rmse'), score.unit)}"
        for run in findings.baselines(case.name)
        if run.model != "climatology" and math.isfinite(findings.card.value(run.name, case.name, variable, "rmse"))
    ]
    text = f"{variable} within {quantity(score.value, score.unit)} (RMSE{'; ' + ', '.join(beside) if beside else ''})"
    compared = against_ridge(findings, main.name, case.name, variable)
    if _worse_than_bilinear(findings, main.name, case.name, variable):
        compared = f"{compared}, and worse than bilinear interpolation" if compared else "worse than bilinear interpolation"
    return f"{text}: {compared}" if compared else text


def against_ridge(findings: Findings, run: str, case: str, variable: str) -> str:
    """How an emulator stands to ridge, worded by the interval of the skill score; empty without ridge."""
    skill = findings.card.get(run, case, variable, "skill_vs_ridge")
    if skill is None or not math.isfinite(skill.value):
        return ""
    small, known = abs(skill.value) < SAME_SKILL, math.isfinite(skill.lower) and math.isfinite(skill.upper)
    if skill.lower <= 0 <= skill.upper if known else small:
        return "not distinguishable from ridge"
    size = f"{percent(abs(skill.value), int(small))} {'less' if skill.value > 0 else 'more'} squared error"
    return f"hardly {'better' if skill.value > 0 else 'worse'} than ridge ({size})" if small else f"{size} than ridge"


def _worse_than_bilinear(findings: Findings, run: str, case: str, variable: str) -> bool:
    skill = findings.card.get(run, case, variable, "skill_vs_bilinear")
    if skill is None or not math.isfinite(skill.value):
        return False
    return skill.value < -SAME_SKILL and not skill.upper > 0


def _abroad(findings: Findings, main: RunFacts) -> str:
    if findings.transfers:
        return _transfer(findings, main, findings.transfers[0])
    if findings.without_truth:
        return _blind(findings, findings.without_truth[0])
    return "It was not applied to a GCM's own fields, so nothing is said about its transfer to a GCM."


def _transfer(findings: Findings, main: RunFacts, case: CaseFacts) -> str:
    grown, shares = [], []
    for variable in findings.targets:
        here, there = _bias(findings, main, findings.home, variable), _bias(findings, main, case, variable)
        if there:
            grown.append(f"for {variable} {there}" + (f" (at home {here})" if here else ""))
        row = findings.split_row(main.name, case.group, variable, "climatology")
        share = number(row["share_input"]) if row else math.nan
        if math.isfinite(share):
            shares.append(f"{percent(share)} for {variable}")
    if not grown:
        return f"On {findings.source_words(case)}, which it was not trained on, it has no finite scores."
    text = f"On {findings.source_words(case)}, whose own fields it was not trained on, the mean |bias| of a grid point is {listed(grown)}"
    if shares:
        text += f"; the GCM's inconsistency with the RCM makes up {listed(shares)} of the climatological error (squared, cross term apart)"
    cure = _cure(findings, main, case)
    return f"{text}{'; ' + cure if cure else ''}."


def _bias(findings: Findings, main: RunFacts, case: CaseFacts | None, variable: str) -> str:
    score = findings.card.get(main.name, case.name, variable, "abs_bias") if case is not None else None
    return quantity(score.value, score.unit) if score is not None and math.isfinite(score.value) else ""


def _cure(findings: Findings, main: RunFacts, case: CaseFacts) -> str:
    """'fine-tuning on 2 years removes 76 % of the bias lost for tasmax'."""
    adapted = [run for run in findings.adapted(case.name) if case.name in run.adapted_to and run.source in ("", main.name)]
    if not adapted:
        return ""
    run = adapted[0]
    parts = []
    for variable in findings.targets:
        before, after = (findings.card.value(name, case.name, variable, "abs_bias") for name in (main.name, run.name))
        if math.isfinite(before) and math.isfinite(after) and before > 0:
            parts.append(f"{percent(1 - after / before)} of this bias for {variable}" if after < before else f"none of it for {variable}")
    years = (
        f"{run.shots} year{'s' if run.shots != '1' else ''}"
        if run.shots
        else ("a few years" if run.mode == "few-shot" else "all its training years")
    )
    return f"fine-tuning on {years} of its pairs removes {listed(parts)}" if parts else ""


def _blind(findings: Findings, case: CaseFacts) -> str:
    text = f"On {findings.source_words(case)} there is no RCM truth, so the emulation can be described but not judged"
    row = largest_shift(findings, case.name)
    if row is None:
        return f"{text}."
    size = number(row["abs_shift"])
    strength = "far from" if size >= STRONG_SHIFT else "near"
    return (
        f"{text}; the means of its predictors lie {strength} those learned from ({row['channel']} in {SEASONS[row['season']]} differs "
        f"most: {quantity(size, '1')} daily standard "
        "deviations on average), which mixes the GCM's own climate with any inconsistency."
    )


def _season_words(case: CaseFacts) -> str:
    return SEASONS["ANN"] if "ANN" in case.seasons else listed([SEASONS[season] for season in case.seasons])


def _caveats(findings: Findings) -> list[str]:
    notes = []
    few = sorted(
        {
            score.n_years
            for score in findings.card.scores
            if score.metric == "rmse" and score.period == "all" and score.season == findings.season
        }
    )
    if few and few[0] < 3:
        notes.append(
            f"The test has {few[0]} year{'s' if few[0] != 1 else ''}: no interval can be given, and differences between similar "
            "scores may be weather."
        )
    elif few and few[0] < FEW_YEARS:
        notes.append(f"The test has {few[0]} years: intervals are Student's t over years (jackknife) and wide.")
    unseen = [name for name in findings.targets if name not in findings.card.recipe.get("channels", [name])]
    if unseen and any(run.model == "bilinear" for run in findings.runs.values()):
        notes.append(
            f"Bilinear interpolation reads the coarse {listed(unseen)} of the day itself, which the emulator's predictors do not hold: "
            "where the field is noisy it knows more."
        )
    if findings.transfers:
        correlation = _synchrony(findings, findings.transfers[0])
        notes.append(
            "Where predictors are a GCM's own, its weather and the RCM's drift apart inside the domain"
            + correlation
            + ": daily RMSE there rewards too smooth a field; judge by bias, distribution and change signals."
        )
    for case in findings.cases.values():
        if case.truth and len(case.periods) < 2:
            notes.append("All test years lie in one period: no change signal can be judged, and nothing is known about warmer climates.")
            break
    if findings.home is not None and "ANN" not in findings.home.seasons:
        notes.append(f"The data hold {_season_words(findings.home)} only ({date(findings.home.first)} to {date(findings.home.last)}).")
    notes += [f"About the lights: {text}" for text in doubts(findings)[:MAX_DOUBTS]]
    return notes


def _synchrony(findings: Findings, case: CaseFacts) -> str:
    values = [
        number(row["correlation"])
        for row in findings.tables["predictor_shift"]
        if row["case"] == case.name
        and row["paired"] == "1"
        and row["season"] == findings.season
        and math.isfinite(number(row["correlation"]))
    ]
    return f" (daily correlation of predictors {min(values):.2f} to {max(values):.2f})" if values else ""
