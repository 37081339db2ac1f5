"""Change signals per degree of regional warming of the driving run: comparable between scenarios and GCMs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from downscale.evaluate.context import Context, cell_areas
from downscale.evaluate.scorecard import Score
from downscale.evaluate.selection import TimeTable
from downscale.pairs.store import PairGroup

WARMING_CHANNELS = ("tas", "ta1000", "ta925", "ta850", "ta700", "ta500")
LEAST_WARMING_K = 0.5
READ_DAYS = 512
SIGNALS = ("change_mean", "change_mean_reference", "change_p99", "change_p99_reference")


def diagnose(context: Context) -> None:
    """Rows change_S_scaling, ..._reference and ..._bias of every change signal of the scores: the signal over the driver's warming.

    The warming is that of the GCM's temperature where the group has a GCM, else of RCMu's: the change of the area mean over the coarse
    domain in the same season, of the lowest level there is. NaN below 0.5 K.
    """
    channel = next((name for name in WARMING_CHANNELS if name in context.store.channels), None)
    if channel is None:
        return
    for group in context.store.groups.values():
        if not group.has_truth or not len(group.split("test")):
            continue
        table = context.table(group, group.split("test"))
        if len(table.periods) > 1:
            degrees = regional_warming(context, group, table, channel)
            context.rows += _rows(context.rows, group.name, degrees)
            context.regional += _rows(context.regional, group.name, degrees)


def regional_warming(context: Context, group: PairGroup, table: TimeTable, channel: str) -> dict[str, float]:
    """Season -> change (K) of the channel's area mean over the coarse domain, last test period minus first."""
    kind = "imperfect" if "imperfect" in group.kinds else "perfect"
    place, index, area = context.store.channels.index(channel), group.split("test"), cell_areas(context.store.coarse)
    daily = np.concatenate(
        [_area_mean(group.predictors(kind, index[start : start + READ_DAYS])[:, place], area) for start in range(0, len(index), READ_DAYS)]
    )
    means = {(one.season, one.period): float(np.nanmean(daily[one.rows])) for one in table.selections if np.isfinite(daily[one.rows]).any()}
    first, last = table.periods[0], table.periods[-1]
    return {season: means.get((season, last), np.nan) - means.get((season, first), np.nan) for season in table.seasons}


def _area_mean(fields: np.ndarray, area: np.ndarray) -> np.ndarray:
    """(time,) means over the cells that have a value."""
    finite = np.isfinite(fields)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (
            np.where(finite, fields, 0.0).astype(np.float64).reshape(len(fields), -1)
            @ area.ravel()
            / (finite.reshape(len(fields), -1) @ area.ravel())
        )


def _rows(rows: list[Score], group: str, degrees: dict[str, float]) -> list[Score]:
    found = {
        (row.prediction, row.case, row.variable, row.region, row.season, row.metric): row
        for row in rows
        if row.metric in SIGNALS and row.case.partition("/")[0] == group
    }
    result = []
    for key, row in found.items():
        kelvin = degrees.get(row.season, np.nan)
        per = 1.0 / kelvin if abs(kelvin) >= LEAST_WARMING_K else np.nan
        stem, _, end = row.metric.partition("_reference") if row.metric.endswith("_reference") else (row.metric, "", None)
        scaled = replace(row, metric=f"{stem}_scaling{'' if end is None else '_reference'}", value=row.value * per, unit=f"{row.unit} K-1")
        result.append(scaled)
        reference = found.get((*key[:-1], f"{row.metric}_reference"))
        if reference is not None:
            result.append(replace(scaled, metric=f"{stem}_scaling_bias", value=(row.value - reference.value) * per))
    return result
