"""The traffic light of an emulator on a GCM: rules on its predictors, in plain words, held against what is known of other GCMs.

Rules and limits stand in ``evaluate.light.rules``. Where a GCM has an RCM run, the true loss of an emulator on it is known; with two such
GCMs or more the limits are calibrated (light_limits), and the light of a GCM with truth uses the others only, so that what it says can be
held against what was lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from downscale.evaluate.context import Context, Row
from downscale.evaluate.predictions import MANIFEST
from downscale.evaluate.transfer.light_evidence import LEARNED, Collector, Evidence, Finding
from downscale.evaluate.transfer.light_limits import Limits, Losses, calibrated, lamp, verdict

TABLE, VERDICT = "light", "verdict"
COLUMNS = ("run", "case", "rule", "light", "value", "yellow", "red", "reading", "calibration")
ERRORS = {"w1": "W1 error", "abs_bias": "mean |bias|", "abs_p99_bias": "mean |bias of P99|", "rmse": "RMSE"}
UNKNOWN = {
    "climate": "not known: no pairs that the run has learned from are in this workspace",
    "spread": "not known: no pairs that the run has learned from are in this workspace",
    "inconsistency": "not known: no RCM run driven by this GCM is here, so its own climate and its inconsistency with an RCM cannot be "
    "told apart",
    "separability": "not known: too few years or days to train a classifier and to judge it",
    "outside": "not known: the run or its prediction has no distances from the training days",
    "warming": "not known: no predictor is an air temperature, or the training days are not here",
}
BLIND = (
    "The light sees predictors only: not whether the emulator answers them as the RCM would, nor changes of the fine scale that the "
    "predictors do not carry."
)


def diagnose(context: Context) -> None:
    """Add light.csv: a row per emulator, GCM and rule, and the verdict."""
    context.extend(TABLE, COLUMNS, [])
    judge = Judge(context, Collector(context).collect())
    for one in judge.evidence:
        context.extend(TABLE, COLUMNS, judge.rows(one))


def verdicts(context: Context) -> list[str]:
    """A line per emulator: its light on each GCM."""
    found: dict[str, list[str]] = {}
    for row in context.tables.get(TABLE, ((), []))[1]:
        if row["rule"] == VERDICT:
            found.setdefault(row["run"], []).append(f"{row['light']} on {row['case']}")
    return [f"{run}: {', '.join(lights)}" for run, lights in found.items()]


@dataclass(frozen=True, eq=False)
class Judge:
    """All evidence of a workspace, and the light of each piece of it."""

    context: Context
    evidence: Sequence[Evidence]

    @cached_property
    def losses(self) -> Losses:
        """The losses that deserve a colour."""
        return Losses(self._options["loss_yellow"], self._options["loss_red"])

    @property
    def _options(self) -> Row:
        return dict(self.context.options["light"])

    @cached_property
    def given(self) -> Limits:
        """The limits of the config, rules that are switched off left out."""
        return {rule: dict(limits) for rule, limits in self._options["rules"].items() if limits}

    @cached_property
    def known_gcms(self) -> list[str]:
        """GCMs with truth."""
        return sorted({one.gcm for one in self.evidence if math.isfinite(one.loss)})

    def limits(self, gcm: str) -> Limits:
        """Limits for a GCM: from all others with truth when there are two at least, else those of the config."""
        others = [one for one in self.evidence if one.gcm != gcm]
        if not self._options["calibrate"] or len(self.known_gcms) < 2:
            return self.given
        return calibrated(self.given, others, self.losses)

    def verdict(self, one: Evidence) -> str:
        """The worst light of its rules."""
        limits = self.limits(one.gcm)
        return verdict([lamp(one.findings[rule].value, limits[rule]) for rule in limits])

    def rows(self, one: Evidence) -> Iterator[Row]:
        """A row per rule, then the verdict."""
        limits, lights = self.limits(one.gcm), {}
        place = {"run": one.run.run, "case": one.run.case}
        for rule, own in limits.items():
            finding = one.findings[rule]
            lights[rule] = lamp(finding.value, own)
            yield {
                **place,
                "rule": rule,
                "light": lights[rule],
                "value": finding.value,
                **own,
                "reading": reading(rule, finding),
                "calibration": self._moved(rule, own),
            }
        yield {
            **place,
            "rule": VERDICT,
            "light": verdict(list(lights.values())),
            "value": one.loss,
            "yellow": self.losses.yellow,
            "red": self.losses.red,
            "reading": self._verdict_words(one, lights),
            "calibration": self._calibration(one),
        }

    def _moved(self, rule: str, own: dict[str, float]) -> str:
        shown = {level: (f"{self.given[rule][level]:.3g}", f"{own[level]:.3g}") for level in own}
        moved = [f"{level} {before} -> {after}" for level, (before, after) in shown.items() if before != after]
        return f"moved to what other GCMs show: {', '.join(moved)}" if moved else "limits as in the config"

    def _verdict_words(self, one: Evidence, lights: dict[str, str]) -> str:
        worst = verdict(list(lights.values()))
        words = {"green": "Green: no rule objects.", "unknown": "Unknown: no rule could be applied."}.get(worst, "")
        if not words:
            why = [reading(rule, one.findings[rule]) for rule, light in lights.items() if light == worst]
            known = sum(light != "unknown" for light in lights.values())
            words = f"{worst.capitalize()}: by {len(why)} of {known} rules: {'; '.join(why)}."
        dark = [UNKNOWN[rule].removeprefix("not known: ") for rule, light in lights.items() if light == "unknown"]
        parts = [words, f"Not known: {'; '.join(dict.fromkeys(dark))}." if dark else "", _aligned(one), BLIND]
        return " ".join(part for part in parts if part)

    def _calibration(self, one: Evidence) -> str:
        if not self._options["calibrate"]:
            start = "not calibrated: evaluate.light.calibrate is off"
        elif len(self.known_gcms) < 2:
            start = f"not calibrated: {self._too_few()}"
        else:
            start = ""
        tried = [one] if math.isfinite(one.loss) else [other for other in self.evidence if other.run.run == one.run.run]
        said = [f"{start or 'left out'} {self._outcome(other)}".strip() for other in tried if math.isfinite(other.loss)]
        if not said:
            return start or "this run has emulated no GCM whose RCM run is here"
        return f"{'; '.join(said)}; yellow above {self.losses.yellow:g}, red above {self.losses.red:g}"

    def _too_few(self) -> str:
        there = f"only {self.known_gcms[0]} is" if self.known_gcms else "there is none"
        return f"this takes two emulated GCMs of which both the own fields and an RCM run are here, and {there}"

    def _outcome(self, one: Evidence) -> str:
        deserved = self.losses.light(one.loss)
        what = ERRORS[self._options["metric"]]
        return f"{one.gcm}: predicted {self.verdict(one)}, and its {what} is {one.loss:.2f} times that at home ({deserved})"


def reading(rule: str, finding: Finding) -> str:
    """What the number of a rule says."""
    if not math.isfinite(finding.value):
        return UNKNOWN[rule]
    value, what = finding.value, finding.what
    if what == LEARNED:
        return f"{rule}: {what}"
    side, size = ("above", "larger") if finding.sign > 0 else ("below", "smaller")
    return {
        "climate": f"{what} lies {value:.2f} daily standard deviations {side} what the run has learned from",
        "spread": f"the variability of {what} is {math.exp(value):.2f} times {size} than in what the run has learned from",
        "inconsistency": f"{what} lies {value:.2f} daily standard deviations {side} that of the RCM run it drove",
        "separability": f"monthly means apart, a classifier tells its days from those learned from in {100 * value:.0f} % of pairs "
        f"({what}), 50 % is guessing",
        "outside": f"{100 * value:.1f} % of its days are farther from the training days than 99.5 % of held-out ones ({what})",
        "warming": f"{100 * value:.0f} % of its days lie in years that are colder or warmer than all training years by more than "
        "the standard deviation of a year",
    }[rule]


def _aligned(one: Evidence) -> str:
    path = one.run.folder / MANIFEST
    facts = json.loads(path.read_text()).get("align") if path.exists() else None
    return (
        "Its fields were aligned before they were emulated; the rules on shifts and separability judge them as they were." if facts else ""
    )
