"""How far a case is from what a run has learned from: home, soft or hard transfer; and which cells of the transfer matrix are empty.

Perfect and imperfect say whose predictors are used: RCMu's or the GCM's own. Home, soft and hard say where (Baño-Medina et al. 2024,
arXiv 2311.03378): "home" is the GCM run that was trained on, in a period that was trained on; "soft" the same GCM in another
period, scenario or member; "hard" another GCM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.evaluate.context import Context, Row
from downscale.evaluate.predictions import Prediction, prediction_days
from downscale.evaluate.selection import PERIOD_GAP_YEARS

MISSING_TABLE = "transfer_missing"
MISSING_COLUMNS = ("run", "case", "command")
HOME, SOFT, HARD = "home", "soft", "hard"


@dataclass(frozen=True, eq=False)
class Kinship:
    """Labels of runs and cases of one evaluation."""

    context: Context

    def gcm(self, group: str) -> str:
        """The GCM behind a group: facet source_id of the GCM, driving_source_id of the RCM, or the name of the source."""
        sources = self.context.sources
        driver = sources.drivers.get(group)
        own = sources.facets.get(group, {})
        if driver is not None:
            return sources.facets.get(driver, {}).get("source_id") or own.get("driving_source_id") or driver
        if sources.roles.get(group) in ("rcm", "observations"):
            return own.get("driving_source_id") or group
        return own.get("source_id") or group

    def observed(self, group: str) -> bool:
        """Whether a group's truth is observations: its predictors are a reanalysis, and no GCM and no RCM is judged there."""
        return self.context.sources.roles.get(group) == "observations"

    def transfer(self, run: Prediction, group: str, years: Sequence[int] | np.ndarray) -> str:
        """ "home", "soft" or "hard" for the given years of a group."""
        learned = [pair.partition("/")[0] for pair in run.trained_on]
        if group in learned and _near(years, self._training_years(group)):
            return HOME
        return SOFT if self.gcm(group) in {self.gcm(name) for name in learned} else HARD

    def _training_years(self, group: str) -> np.ndarray:
        found = self.context.store.groups.get(group)
        return np.unique(self.context.table(found, found.split("train")).year) if found is not None else np.zeros(0, np.int64)

    def years(self, prediction: Prediction, period: str) -> np.ndarray:
        """The years that a score of a period is made of."""
        group = self.context.store.groups[prediction.group]
        index = group.split("test")
        if not (group.has_truth and len(index)):
            index = np.flatnonzero(np.isin(group.days, prediction_days(prediction)[0]))
        table = self.context.table(group, index)
        inside = table.stratum == table.periods.index(period) if period in table.periods else np.ones(len(index), bool)
        return np.unique(table.year[inside])

    def labels(self) -> dict[tuple[str, str, str], str]:
        """(run, case, period) -> label; "all" and "change" are home only where every year is."""
        periods = {row.period for row in self.context.rows}
        return {
            (one.run, one.case, period): self.transfer(one, one.group, self.years(one, period))
            for one in self.context.predictions
            for period in periods
        }


def _near(years: Sequence[int] | np.ndarray, training: np.ndarray) -> bool:
    away = np.abs(np.asarray(years)[:, None] - training[None, :])
    return bool(away.size) and bool((away.min(axis=1) <= PERIOD_GAP_YEARS).all())


def diagnose(context: Context) -> None:
    """Add transfer_missing.csv: runs and cases without a prediction, and the command that makes it."""
    context.extend(MISSING_TABLE, MISSING_COLUMNS, _missing(context))


def _missing(context: Context) -> Iterator[Row]:
    done = {(one.run, one.case) for one in context.predictions}
    for run in dict.fromkeys(one.run for one in context.predictions):
        for group in context.store.groups.values():
            for kind in group.kinds:
                if (run, f"{group.name}/{kind}") not in done:
                    driver = context.sources.drivers.get(group.name) if kind == "imperfect" else None
                    source = driver or group.name
                    command = f"downscale apply CONFIG --run {run} --source {source}"
                    yield {"run": run, "case": f"{group.name}/{kind}", "command": command}
