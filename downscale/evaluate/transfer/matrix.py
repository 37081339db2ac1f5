"""GCM x RCM x scenario: which cells of the ensemble, one for each member, are simulated, emulated, trusted, doubtful or missing.

Names come from the facets of the config (source_id, driving_source_id, experiment_id, variant_label); a GCM without them has the name of
its source, and RCM runs without a source_id are of one RCM: they share the fine grid of the workspace.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from downscale.evaluate.context import Context, Row
from downscale.evaluate.scorecard import TRUTH
from downscale.evaluate.transfer.kinship import Kinship
from downscale.evaluate.transfer.light import VERDICT
from downscale.pairs.store import PairGroup

TABLE = "matrix"
COLUMNS = ("gcm", "rcm", "scenario", "member", "years", "state", "run", "case", "light", "command", "others")
STATES = {"green": "trusted", "yellow": "doubtful", "red": "doubtful", "unknown": "emulated"}
WORST_FIRST = ("red", "yellow", "unknown", "green")
ONE_RCM = "RCM"
_SEAM = re.compile(r"(\S+) (\d{4})-\d\d-\d\d to (\d{4})-\d\d-\d\d")


def diagnose(context: Context) -> None:
    """Add matrix.csv; after the traffic light."""
    context.extend(TABLE, COLUMNS, Ensemble(context).cells())


@dataclass(frozen=True)
class Part:
    """Days of a group in one scenario."""

    group: str
    gcm: str
    rcm: str
    scenario: str
    member: str
    years: str


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The cells of a workspace."""

    context: Context

    @cached_property
    def parts(self) -> list[Part]:
        """Every group by scenario; rcm is empty for a GCM that drove none."""
        kinship, result = Kinship(self.context), []
        for group in self.context.store.groups.values():
            for scenario, years in [] if kinship.observed(group.name) else self._scenarios(group):
                result.append(Part(group.name, kinship.gcm(group.name), self.rcm(group), scenario, self._member(group.name), years))
        return result

    def rcm(self, group: PairGroup) -> str:
        """The RCM that a group's truth is of; empty without truth."""
        return self.context.sources.facets.get(group.name, {}).get("source_id", ONE_RCM) if group.has_truth else ""

    def _member(self, name: str) -> str:
        facets = self._facets(name)
        return facets.get("variant_label") or facets.get("driving_variant_label") or ""

    def _facets(self, name: str) -> dict[str, str]:
        """Facets of a group's truth and of its GCM; those of the GCM first."""
        sources = self.context.sources
        driver = sources.drivers.get(name)
        return {**sources.facets.get(name, {}), **(sources.facets.get(driver, {}) if driver else {})}

    def _scenarios(self, group: PairGroup) -> list[tuple[str, str]]:
        """(scenario, years): the facet, or where experiments follow each other in the files, each with its years."""
        year = np.unique(self.context.table(group, np.arange(len(group.days))).year)
        facets = self._facets(group.name)
        if stated := facets.get("experiment_id") or facets.get("driving_experiment_id"):
            return [(stated, _spans(year))]
        for note in group.notes:
            if "experiments follow each other" in note:
                seams = _SEAM.findall(note)
                return [(name, _spans(year[(year >= int(first)) & (year <= int(last))])) for name, first, last in seams]
        return [("", _spans(year))]

    def cells(self) -> Iterator[Row]:
        """A row per cell, by GCM and member, RCM and scenario."""
        gcms = list(dict.fromkeys((part.gcm, part.member) for part in self.parts))
        rcms = list(dict.fromkeys(part.rcm for part in self.parts if part.rcm)) or [ONE_RCM]
        scenarios = list(dict.fromkeys(part.scenario for part in self.parts))
        for gcm in sorted(gcms, key=lambda one: [name for name, _ in gcms].index(one[0])):
            for rcm in rcms:
                for scenario in scenarios:
                    yield self._cell(gcm, rcm, scenario)

    def _cell(self, gcm: tuple[str, str], rcm: str, scenario: str) -> Row:
        row: Row = {**dict.fromkeys(COLUMNS, ""), "gcm": gcm[0], "member": gcm[1], "rcm": rcm, "scenario": scenario}
        here = [part for part in self.parts if (part.gcm, part.member, part.scenario) == (*gcm, scenario)]
        simulated = [part for part in here if part.rcm == rcm]
        if simulated:
            part = simulated[0]
            return {**row, "years": part.years, "state": "simulated", "case": f"{part.group}/{TRUTH}"}
        emulated = self._emulations(here, rcm)
        if emulated:
            others = Counter(found["state"] for found in emulated[1:])
            return {**row, **emulated[0], "others": ", ".join(f"{count} {state}" for state, count in others.items())}
        return {**row, "state": "missing", "command": self._command(here, rcm)}

    def _emulations(self, here: list[Part], rcm: str) -> list[Row]:
        """Those of the run that the verdict is about first (pretrained, on the config's pairs), its worst case before its better ones."""
        found = []
        for part in here:
            for one in self.context.predictions:
                if one.role == "emulator" and one.case == f"{part.group}/imperfect" and rcm in self._rcms_of(one.trained_on):
                    light = self._verdicts.get((one.run, one.case), "unknown")
                    own = (one.mode != "pretrain", one.trained_on != tuple(self.context.train_on), one.run, WORST_FIRST.index(light))
                    row = {"years": part.years, "state": STATES[light], "run": one.run, "case": one.case, "light": light}
                    found.append((own, row))
        return [row for _, row in sorted(found, key=lambda one: one[0])]

    def _rcms_of(self, pairs: tuple[str, ...]) -> set[str]:
        groups = self.context.store.groups
        return {self.rcm(groups[name]) if name in groups else ONE_RCM for name in (pair.partition("/")[0] for pair in pairs)}

    @cached_property
    def _verdicts(self) -> dict[tuple[str, str], str]:
        rows = self.context.tables.get("light", ((), []))[1]
        return {(row["run"], row["case"]): row["light"] for row in rows if row["rule"] == VERDICT}

    def _command(self, here: list[Part], rcm: str) -> str:
        """What fills an empty cell, where the GCM is prepared and an emulator of the RCM has been applied to anything."""
        runs = [one.run for one in self.context.predictions if one.role == "emulator" and rcm in self._rcms_of(one.trained_on)]
        if not here or not runs:
            return ""
        source = self.context.sources.drivers.get(here[0].group) or here[0].group
        return f"downscale apply CONFIG --run {runs[0]} --source {source}"


def _spans(year: np.ndarray) -> str:
    """Contiguous years as 1995-2000 2090-2095."""
    if not len(year):
        return ""
    parts = np.split(year, np.flatnonzero(np.diff(year) > 1) + 1)
    return " ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
