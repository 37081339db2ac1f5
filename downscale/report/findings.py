"""What a scores folder says, sorted for the page: runs, cases, and which of them the story is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from downscale.errors import InputDataError
from downscale.evaluate.scorecard import TRUTH, MapsFile, Scorecard, number, read_maps, read_scores, read_table
from downscale.report.figure import COLOURS

BASELINES = ("ridge", "kernel_ridge", "bilinear", "climatology")
TABLES = (
    "runs", "cases", "quantiles", "error_split", "signal", "predictor_shift", "predictor_scale", "transfer", "transfer_missing", "recovery",
    "separability", "consistency", "extrapolation", "extrapolation_slope", "ensemble", "anova", "light", "matrix", "return_levels",
    "paired", "rank_histogram", "reliability", "ood", "ood_days", "ood_error", "feature_shift", "sensitivity", "attribution",
    "attribution_rank", "regime_frequency", "regime_scores", "regime_stability",
)  # fmt: skip
"""CSV files of a scores folder; those of diagnostics that did not apply are not there."""


@dataclass(frozen=True)
class RunFacts:
    """One run as evaluate saw it."""

    name: str
    role: str
    model: str
    mode: str
    trained_on: tuple[str, ...]
    adapted_to: tuple[str, ...]
    source: str
    shots: str


@dataclass(frozen=True)
class CaseFacts:
    """One case: emulation of a group from RCMu ("perfect") or GCM ("imperfect") predictors."""

    name: str
    group: str
    kind: str
    truth: bool
    calendar: str
    first: str
    last: str
    n_days: int
    periods: tuple[str, ...]
    seasons: tuple[str, ...]


@dataclass
class Findings:
    """A scores folder in memory; maps are read when drawn."""

    folder: Path
    card: Scorecard
    runs: dict[str, RunFacts]
    cases: dict[str, CaseFacts]
    tables: dict[str, list[dict[str, str]]]
    grid: xr.Dataset
    spectra: xr.Dataset
    _maps: dict[tuple[str, str], xr.Dataset] = field(default_factory=dict)

    @cached_property
    def _maps_file(self) -> MapsFile:
        return MapsFile(self.folder)

    @property
    def targets(self) -> list[str]:
        """Target variables."""
        return list(self.card.recipe.get("targets", []))

    @property
    def truth_word(self) -> str:
        """What the truth is called in figures: of files that anyone may have made, only a reference."""
        return "reference" if self.card.recipe.get("profile") == "default" else "truth"

    @property
    def season(self) -> str:
        """Main season."""
        return self.card.main_season

    def table(self, name: str, **equal: str) -> list[dict[str, str]]:
        """Rows of a table whose columns have the given values; none where the diagnostic did not apply."""
        return [row for row in self.tables.get(name, []) if all(row.get(key) == value for key, value in equal.items())]

    def runs_on(self, case: str) -> list[RunFacts]:
        """Runs that were applied to a case: emulators before baselines."""
        applied = {key for key in {(row.prediction, row.case) for row in self.card.scores} if key[1] == case}
        return sorted((run for run in self.runs.values() if (run.name, case) in applied), key=_order)

    @cached_property
    def main(self) -> RunFacts | None:
        """The emulator that the verdict is about: the first pretrained one on the config's training pairs; else any; else None."""
        emulators = [run for run in self.runs.values() if run.role == "emulator"]
        wanted = tuple(self.card.recipe.get("train_on", ()))
        ranked = sorted(emulators, key=lambda run: (run.mode != "pretrain", run.trained_on != wanted, run.name))
        return ranked[0] if ranked else None

    @cached_property
    def home(self) -> CaseFacts | None:
        """The case that the main run was trained on (its test days), else any with truth that it was applied to."""
        if self.main is None:
            return next((case for case in self.cases.values() if case.truth), None)
        for name in (*self.main.trained_on, *sorted(self.cases)):
            case = self.cases.get(name)
            if case is not None and case.truth and self.main in self.runs_on(name):
                return case
        return None

    @cached_property
    def transfers(self) -> list[CaseFacts]:
        """Cases with truth, from a GCM's own fields, that the main run was not trained on: other GCMs first."""
        if self.main is None:
            return []
        known = {pair.partition("/")[0] for pair in self.main.trained_on}
        found = [
            case
            for case in self.cases.values()
            if case.truth and case.kind == "imperfect" and case.name not in self.main.trained_on and self.main in self.runs_on(case.name)
        ]
        return sorted(found, key=lambda case: (case.group in known, case.name))

    @cached_property
    def without_truth(self) -> list[CaseFacts]:
        """Cases that can be described but not judged."""
        return [case for case in self.cases.values() if not case.truth]

    def baselines(self, case: str) -> list[RunFacts]:
        """Baselines on a case, one per model, those trained on the main run's pairs first."""
        wanted = self.main.trained_on if self.main else ()
        chosen: dict[str, RunFacts] = {}
        for run in sorted(
            (run for run in self.runs_on(case) if run.role == "baseline"), key=lambda run: (run.trained_on != wanted, run.name)
        ):
            chosen.setdefault(run.model, run)
        return sorted(chosen.values(), key=_order)

    def adapted(self, case: str) -> list[RunFacts]:
        """Emulators that were trained or fine-tuned on a case."""
        return [run for run in self.runs_on(case) if run.role == "emulator" and case in run.trained_on and run != self.main]

    def maps(self, run: str, case: str) -> xr.Dataset:
        """Maps of a run for a case (or of the truth)."""
        if (run, case) not in self._maps:
            self._maps[run, case] = self._maps_file.read(run, case)
        return self._maps[run, case]

    def field_map(self, run: str, case: str, name: str) -> np.ndarray | None:
        """One map (y, x), or None; for the truth of any case of a group give run "truth"."""
        maps = self.maps(run, f"{case.partition('/')[0]}/{TRUTH}" if run == TRUTH and not case.endswith("training") else case)
        return np.asarray(maps[name].values) if name in maps else None

    def label(self, run: RunFacts) -> str:
        """A short name for legends: the model's for baselines where it is unique."""
        same = [other for other in self.runs.values() if other.model == run.model]
        return run.model if run.role == "baseline" and len(same) == 1 else run.name

    def colour_of(self, case: str) -> str:
        """The colour of a case, the same in every figure."""
        known = list(self.cases)
        return COLOURS[known.index(case) % len(COLOURS)] if case in known else COLOURS[-1]

    def source_words(self, case: CaseFacts) -> str:
        """What the predictors of a case are."""
        if case.kind == "perfect":
            return f"{case.group}'s RCMu"
        return str((self.card.recipe.get("drivers") or {}).get(case.group) or case.group)

    def is_observed(self, case: CaseFacts) -> bool:
        """Whether the truth of a case is observations, paired with a reanalysis by day."""
        return (self.card.recipe.get("roles") or {}).get(case.group) == "observations"

    def split_row(self, run: str, group: str, variable: str, statistic: str) -> dict[str, str] | None:
        """One row of the error split in the main season."""
        wanted = (run, group, variable, statistic, self.season)
        return next(
            (
                row
                for row in self.tables["error_split"]
                if (row["run"], row["group"], row["variable"], row["statistic"], row["season"]) == wanted
            ),
            None,
        )


def ordered(runs: Iterable[RunFacts]) -> list[RunFacts]:
    """Emulators before baselines; pretrained, few-shot, fine-tuned; ridge before the plainer baselines."""
    return sorted(runs, key=_order)


def _order(run: RunFacts) -> tuple[int, int, str]:
    rank = BASELINES.index(run.model) if run.model in BASELINES else len(BASELINES)
    mode = ("pretrain", "few-shot", "finetune").index(run.mode) if run.mode in ("pretrain", "few-shot", "finetune") else 3
    return (int(run.role != "emulator"), rank if run.role != "emulator" else mode, run.name)


def read_findings(folder: Path) -> Findings:
    """Everything in a scores folder; InputDataError when there is none."""
    try:
        card = read_scores(folder)
    except FileNotFoundError:
        raise InputDataError("there are no scores to report", where=str(folder), hint="run downscale evaluate CONFIG first") from None
    tables = {name: read_table(folder / f"{name}.csv") for name in TABLES}
    runs = {
        row["run"]: RunFacts(
            row["run"],
            row["role"],
            row["model"],
            row["mode"],
            tuple(row["trained_on"].split()),
            tuple(row["adapted_to"].split()),
            row["from"],
            row["shots"],
        )
        for row in tables["runs"]
    }
    cases = {
        row["case"]: CaseFacts(
            row["case"],
            row["group"],
            row["kind"],
            row["truth"] == "1",
            row["calendar"],
            row["first"],
            row["last"],
            int(row["n_days"]),
            tuple(row["periods"].split()),
            tuple(row["seasons"].split()),
        )
        for row in tables["cases"]
    }
    return Findings(folder, card, runs, cases, tables, read_maps(folder / "grid.nc"), read_maps(folder / "spectra.nc"))


def largest_shift(findings: Findings, case: str) -> dict[str, str] | None:
    """The row of the predictor-shift table of a case with the largest mean |d|."""
    rows = [row for row in findings.tables["predictor_shift"] if row["case"] == case and np.isfinite(number(row["abs_shift"]))]
    return max(rows, key=lambda row: number(row["abs_shift"])) if rows else None
