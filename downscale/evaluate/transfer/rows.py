"""Rows of the transfer diagnostics: error split, predictor shift, whose change signal the emulation follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from downscale.evaluate.blocks import CHANGE_STATISTICS, FieldScores, GroupScores
from downscale.evaluate.metrics.change import signal_followed
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.evaluate.table import GroupTable, change_unit
from downscale.evaluate.transfer.error_split import ErrorSplit, from_means, split_bias, split_statistic
from downscale.grid.interpolate import bilinear_weights
from downscale.pairs.store import PairGroup, PairStore

SPLIT_COLUMNS = ("run", "role", "group", "variable", "statistic", "season", "total", "input", "emulator", "cross", "share_input", "n_days")
SIGNAL_COLUMNS = ("run", "case", "variable", "statistic", "season", "alpha", "n_days")
SURFACE_DAYS = 512
P99 = 0.99


def error_split_rows(group: str, maker: GroupTable, scores: GroupScores, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Rows for every run with predictions from both the RCMu and the GCM of the group: climatological statistics first, daily last."""
    roles = {one.run: one.role for one in predictions}
    sizes = {selection.season: len(selection.rows) for selection in maker.table.selections if selection.period == ALL_PERIODS}
    rows = []
    for run, name in dict.fromkeys((run, name) for run, kind, name in scores.predictions):
        both = [scores.predictions.get((run, kind, name)) for kind in ("imperfect", "perfect")]
        if both[0] is None or both[1] is None:
            continue
        for season, n_days in sizes.items():
            for statistic, split in _splits(maker, (both[0], both[1], scores.truth[name]), scores, (run, name, season)):
                rows.append(
                    {
                        "run": run,
                        "role": roles[run],
                        "group": group,
                        "variable": name,
                        "statistic": statistic,
                        "season": season,
                        "total": split.total,
                        "input": split.input,
                        "emulator": split.emulator,
                        "cross": split.cross,
                        "share_input": split.share_input,
                        "n_days": n_days,
                    }
                )
    return rows


def _splits(
    maker: GroupTable, series: tuple[FieldScores, ...], scores: GroupScores, key: tuple[str, str, str]
) -> Iterator[tuple[str, ErrorSplit]]:
    run, name, season = key
    for statistic, label in (("mean", "climatology"), ("p99", "p99")):
        maps = [one.maps[statistic, season, ALL_PERIODS] for one in series]
        yield label, split_statistic(maps[0], maps[1], maps[2], maker.area)
        yield f"{label}_bias", split_bias(maps[0], maps[1], maps[2], maker.area)
    for statistic in CHANGE_STATISTICS:
        changes = [maker.change_map(one, statistic, season, name) for one in series]
        if changes[0] is not None and changes[1] is not None and changes[2] is not None:
            yield f"change_{statistic}", split_statistic(changes[0], changes[1], changes[2], maker.area)
            yield f"change_{statistic}_bias", split_bias(changes[0], changes[1], changes[2], maker.area)
    yield "daily", from_means({part: scores.split[run, name, season, part].value for part in ("total", "input", "emulator", "cross")})


def change_maps(maker: GroupTable, fields: Mapping[str, FieldScores]) -> dict[str, tuple[np.ndarray, str]]:
    """VARIABLE__change_STATISTIC__SEASON__change -> map and unit."""
    result = {}
    for name, series in fields.items():
        for statistic in CHANGE_STATISTICS:
            for season in maker.table.seasons:
                change = maker.change_map(series, statistic, season, name)
                if change is not None:
                    result[f"{name}__change_{statistic}__{season}__change"] = (change, change_unit(name))
    return result


def signal_rows(store: PairStore, group: PairGroup, index: np.ndarray, maker: GroupTable, scores: GroupScores) -> list[dict[str, Any]]:
    """alpha of every imperfect prediction: whose change of the mean and of P99 it follows; needs the GCM's own variable and two periods."""
    if "imperfect" not in group.kinds or len(maker.table.periods) < 2:
        return []
    gcm = _gcm_statistics(store, group, index, maker.table)
    rows = []
    for (run, kind, name), series in scores.predictions.items():
        own = gcm.get(name)
        if kind != "imperfect" or own is None:
            continue
        for season in maker.table.seasons:
            for statistic in CHANGE_STATISTICS:
                change, ours, true = (maker.change_map(one, statistic, season, name) for one in (own, series, scores.truth[name]))
                if change is not None and ours is not None and true is not None:
                    rows.append(
                        {
                            "run": run,
                            "case": f"{group.name}/{kind}",
                            "variable": name,
                            "statistic": statistic,
                            "season": season,
                            "alpha": signal_followed(ours, change, true, maker.area),
                            "n_days": len(maker.table.days),
                        }
                    )
    return rows


def _gcm_statistics(store: PairStore, group: PairGroup, index: np.ndarray, table: TimeTable) -> dict[str, FieldScores]:
    """Mean and P99 of the GCM's own field of each target's name in the first and last period, bilinear on the fine grid.

    NaN where a day is missing; targets that the GCM's files do not hold are left out.
    """
    first = group.surface("imperfect", index[:1])[0]
    result: dict[str, FieldScores] = {}
    for position in np.flatnonzero(np.isfinite(first).any(axis=(1, 2))).tolist():
        weights = bilinear_weights(store.coarse, store.fine)
        own = result.setdefault(store.targets[position], FieldScores(store.fine.shape))
        parts = [
            group.surface("imperfect", index[start : start + SURFACE_DAYS])[:, position] for start in range(0, len(index), SURFACE_DAYS)
        ]
        coarse = np.concatenate(parts)
        for selection in table.selections:
            if selection.period in (table.periods[0], table.periods[-1]):
                values = coarse[selection.rows].astype(np.float64)
                for statistic, field in zip(CHANGE_STATISTICS, (values.mean(axis=0), np.quantile(values, P99, axis=0)), strict=True):
                    own.maps[statistic, selection.season, selection.period] = weights.apply(field[None])[0]
    return result
