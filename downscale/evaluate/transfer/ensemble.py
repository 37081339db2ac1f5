"""What an emulator does to an ensemble of GCMs: does it rank their change signals as the RCM does, and who makes the spread?

Kendall's tau between the emulated and the RCM's change signals over GCMs (three at least; Kendall 1938, doi 10.1093/biomet/30.1-2.81), and
a two-way analysis of variance without replication of the emulated signals by GCM and emulator (Storch and Zwiers 1999, chapter 9): the
residual is their interaction, emulators that disagree more on one GCM than on another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import stats

from downscale.evaluate.context import Context
from downscale.evaluate.transfer.kinship import Kinship

TABLE, ANOVA_TABLE = "ensemble", "anova"
COLUMNS = ("run", "variable", "statistic", "season", "kendall_tau", "p_value", "n_gcm", "note", "pairing")
ANOVA_COLUMNS = ("variable", "statistic", "season", "factor", "share", "n")
STATISTICS = ("change_mean", "change_p99")
MIN_GCMS = 3
Signals = dict[str, dict[str, tuple[float, float]]]


def diagnose(context: Context) -> None:
    """Add ensemble.csv for every run, and anova.csv over emulators on the GCMs' own fields."""
    context.extend(TABLE, COLUMNS, [])
    context.extend(ANOVA_TABLE, ANOVA_COLUMNS, [])
    for place, signals in _signals(context).items():
        pairing, variable, statistic, season = place
        key = {"variable": variable, "statistic": statistic, "season": season}
        context.extend(TABLE, COLUMNS, [{**key, "run": run, "pairing": pairing, **ranking(found)} for run, found in signals.items()])
        if pairing == "imperfect":
            emulators = {one.run for one in context.predictions if one.role == "emulator"}
            mine = {run: {gcm: own for gcm, (own, _) in found.items()} for run, found in signals.items() if run in emulators}
            context.extend(ANOVA_TABLE, ANOVA_COLUMNS, [{**key, **row} for row in variance_shares(mine)])


def _signals(context: Context) -> dict[tuple[str, str, str, str], Signals]:
    """(pairing, variable, statistic, season) -> run -> GCM -> emulated and true area-mean change, the mean over its members."""
    kinship, card = Kinship(context), context.card
    found: dict[tuple[tuple[str, str, str, str], str, str], list[tuple[float, float]]] = {}
    runs = {one.run for one in context.predictions}
    for row in context.rows:
        if row.metric in STATISTICS and row.prediction in runs:
            group, _, kind = row.case.partition("/")
            truth = card.get(row.prediction, row.case, row.variable, f"{row.metric}_reference", season=row.season, period=row.period)
            place = (kind, row.variable, row.metric, row.season)
            pair = (row.value, truth.value if truth else math.nan)
            found.setdefault((place, row.prediction, kinship.gcm(group)), []).append(pair)
    result: dict[tuple[str, str, str, str], Signals] = {}
    for (place, run, gcm), pairs in found.items():
        own, true = np.mean(pairs, axis=0)
        result.setdefault(place, {}).setdefault(run, {})[gcm] = (float(own), float(true))
    return result


def ranking(signals: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Kendall's tau-b between emulated and true change over GCMs, with its p value; NaN with the reason below three."""
    pairs = np.array([pair for pair in signals.values() if all(math.isfinite(value) for value in pair)]).reshape(-1, 2)
    row = {"kendall_tau": math.nan, "p_value": math.nan, "n_gcm": len(pairs), "note": ""}
    if len(pairs) < MIN_GCMS:
        return {**row, "note": f"{len(pairs)} GCM(s) with truth and two test periods: a ranking needs {MIN_GCMS}"}
    found = stats.kendalltau(pairs[:, 0], pairs[:, 1])
    if not math.isfinite(found.statistic):
        return {**row, "note": "all GCMs change alike"}
    return {**row, "kendall_tau": float(found.statistic), "p_value": float(found.pvalue)}


def variance_shares(signals: Mapping[str, Mapping[str, float]]) -> Iterator[dict[str, Any]]:
    """Shares of the spread of emulated changes that GCM, emulator and their interaction make.

    Emulators (run -> GCM -> change) that lack a GCM are left out. Nothing for fewer than two of either; NaN where all changes are equal.
    """
    gcms = sorted({gcm for own in signals.values() for gcm in own})
    rows = [[own.get(gcm, math.nan) for gcm in gcms] for own in signals.values()]
    table = np.array([row for row in rows if np.isfinite(row).all()])
    if table.ndim != 2 or min(table.shape) < 2:
        return
    mean = table.mean()
    total = float(((table - mean) ** 2).sum())
    by_gcm = table.shape[0] * float(((table.mean(axis=0) - mean) ** 2).sum())
    by_emulator = table.shape[1] * float(((table.mean(axis=1) - mean) ** 2).sum())
    sizes = {"gcm": table.shape[1], "emulator": table.shape[0], "residual": table.size}
    for factor, part in (("gcm", by_gcm), ("emulator", by_emulator), ("residual", total - by_gcm - by_emulator)):
        yield {"factor": factor, "share": max(part, 0.0) / total if total > 0 else math.nan, "n": sizes[factor]}
