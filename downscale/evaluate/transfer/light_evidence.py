"""What the traffic light looks at: a number per rule, run and GCM, and, where there is truth, what the run really lost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from downscale.evaluate.context import Context, Row
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.scorecard import TRUTH, Scorecard
from downscale.evaluate.selection import ALL_YEAR
from downscale.evaluate.transfer.kinship import Kinship

LEARNED = "it has learned from this GCM"


@dataclass(frozen=True)
class Finding:
    """One rule's number; NaN where it cannot be known.

    Attributes:
        value: never negative.
        what: the channel, classifier or space it belongs to.
        sign: of the difference, GCM minus what was learned; 0 where it has none.
    """

    value: float
    what: str = ""
    sign: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """One run on one GCM.

    Attributes:
        run: whose.
        gcm: name of the GCM.
        findings: rule -> number.
        loss: error in units of the truth's standard deviation over that on the run's own training pairs, the worst variable; NaN without
            truth.
    """

    run: Prediction
    gcm: str
    findings: dict[str, Finding]
    loss: float

    @property
    def key(self) -> tuple[str, str]:
        """(run, case)."""
        return self.run.run, self.run.case


@dataclass(frozen=True, eq=False)
class Collector:
    """Collects evidence from the tables that other diagnostics left in the context."""

    context: Context

    def collect(self) -> list[Evidence]:
        """Every emulator on every GCM; a reanalysis with its observations is none."""
        kinship = Kinship(self.context)
        emulations = [one for one in self.context.predictions if one.role == "emulator" and one.kind == "imperfect"]
        wanted = [one for one in emulations if not kinship.observed(one.group)]
        return [Evidence(one, kinship.gcm(one.group), self._findings(one), self._loss(one)) for one in wanted]

    def _findings(self, one: Prediction) -> dict[str, Finding]:
        return {
            "climate": self._shift(one, one.trained_on, "abs_shift"),
            "spread": self._shift(one, one.trained_on, "abs_log_std_ratio"),
            "inconsistency": self._inconsistency(one),
            "separability": self._separability(one),
            "outside": self._outside(one),
            "warming": self._warming(one),
        }

    def _inconsistency(self, one: Prediction) -> Finding:
        if one.case in one.trained_on:
            return Finding(0.0, LEARNED)
        return self._shift(one, [f"{one.group}/perfect"], "abs_shift")

    def _rows(self, table: str) -> list[Row]:
        return self.context.tables.get(table, ((), []))[1]

    @cached_property
    def _shifts(self) -> dict[frozenset[str], list[Row]]:
        return _by_pair(self._rows("predictor_shift"))

    @cached_property
    def _separable(self) -> dict[frozenset[str], list[Row]]:
        return _by_pair(self._rows("separability"))

    def _shift(self, one: Prediction, pairs: Iterable[str], column: str) -> Finding:
        """The worst channel, averaged over seasons, against the nearest of the pairs; zero where the case itself is one of them."""
        found = []
        for pair in pairs:
            if pair == one.case:
                return Finding(0.0, LEARNED)
            rows = self._shifts.get(frozenset((one.case, pair)), [])
            seasons = {row["season"] for row in rows}
            rows = [row for row in rows if row["season"] != ALL_YEAR or len(seasons) == 1]
            means = {channel: _mean([abs(row[column]) for row in rows if row["channel"] == channel]) for channel in _channels(rows)}
            means = {channel: value for channel, value in means.items() if math.isfinite(value)}
            if means:
                worst = max(means, key=lambda name: means[name])
                signed = _mean([_signed(row, one.case, column) for row in rows if row["channel"] == worst])
                found.append(Finding(means[worst], worst, math.copysign(1.0, signed)))
        return min(found, key=lambda finding: finding.value) if found else Finding(math.nan)

    def _separability(self, one: Prediction) -> Finding:
        found = []
        for pair in one.trained_on:
            if pair == one.case:
                return Finding(0.5, LEARNED)
            rows = [row for row in self._separable.get(frozenset((one.case, pair)), []) if math.isfinite(row["auc"])]
            rows = [row for row in rows if row["season"] == rows[0]["season"]]
            if rows:
                best = max(rows, key=apart)
                plain = max(float(row["auc"]) for row in rows)
                found.append(Finding(apart(best), f"{best['classifier']}; {100 * plain:.0f} % with their means left in"))
        return min(found, key=lambda finding: finding.value) if found else Finding(math.nan)

    def _outside(self, one: Prediction) -> Finding:
        rows = [row for row in self._rows("ood") if (row["run"], row["case"], row["period"]) == (one.run, one.case, "all")]
        rows = [row for row in rows if math.isfinite(row["share"])]
        worst = max(rows, key=lambda row: row["share"], default=None)
        return Finding(float(worst["share"]), str(worst["space"])) if worst else Finding(math.nan)

    def _warming(self, one: Prediction) -> Finding:
        found = self.context.kept.get("warming", {}).get((one.run, one.case))
        return Finding(found.outside if found else math.nan)

    def _loss(self, one: Prediction) -> float:
        metric = self.context.options["light"]["metric"]
        ratios = []
        for name in one.variables:
            home = [self._relative(one.run, pair, name, metric) for pair in one.trained_on]
            home = [value for value in home if math.isfinite(value) and value > 0]
            here = self._relative(one.run, one.case, name, metric)
            if home and math.isfinite(here):
                ratios.append(here / min(home))
        return max(ratios, default=math.nan)

    def _relative(self, run: str, case: str, variable: str, metric: str) -> float:
        """A score in units of the truth's daily standard deviation."""
        card = self._card
        spread = card.value(TRUTH, f"{case.partition('/')[0]}/{TRUTH}", variable, "std")
        return card.value(run, case, variable, metric) / spread if spread > 0 else math.nan

    @cached_property
    def _card(self) -> Scorecard:
        return self.context.card


def apart(row: Row) -> float:
    """AUC with monthly means taken out, which the rule on the climate judges already; where there is none, the plain one."""
    return float(row["auc_anomalies"] if math.isfinite(row["auc_anomalies"]) else row["auc"])


def _by_pair(rows: Sequence[Row]) -> dict[frozenset[str], list[Row]]:
    found: dict[frozenset[str], list[Row]] = {}
    for row in rows:
        found.setdefault(frozenset((row["case"], row["against"])), []).append(row)
    return found


def _signed(row: Row, case: str, column: str) -> float:
    """The difference as case minus the other, whichever way round the table has it."""
    value = float(row[column.removeprefix("abs_")])
    return value if row["case"] == case else -value


def _channels(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["channel"] for row in rows))


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
