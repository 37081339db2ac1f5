"""Rows of the transfer diagnostics: error split, predictor shift, whose change signal the emulation follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from downscale.evaluate.change import signal_followed
from downscale.evaluate.error_split import ErrorSplit, from_means, split_statistic
from downscale.evaluate.passes import CHANGE_STATISTICS, FieldScores, GroupScores
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.evaluate.shift import PredictorSample, predictor_shift
from downscale.evaluate.table import GroupTable, change_unit
from downscale.grid.interpolate import bilinear_weights
from downscale.pairs.store import PairGroup, PairStore

SPLIT_COLUMNS = ("run", "role", "group", "variable", "statistic", "season", "total", "input", "emulator", "cross", "share_input", "n_days")
SIGNAL_COLUMNS = ("run", "case", "variable", "statistic", "season", "alpha", "n_days")
SURFACE_DAYS = 512


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
    for statistic in CHANGE_STATISTICS:
        changes = [maker.change_map(one, statistic, season, name) for one in series]
        if changes[0] is not None and changes[1] is not None and changes[2] is not None:
            yield f"change_{statistic}", split_statistic(changes[0], changes[1], changes[2], maker.area)
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


def shift_rows(store: PairStore, group: PairGroup, area: np.ndarray, year_starts: int, train_on: Sequence[str]) -> list[dict[str, Any]]:
    """Predictor shift of a group.

    A GCM that drives an RCM: against its own RCMu on the test days, day by day. Every GCM: against what ``train_on`` learned from, on the
    training days of both (all days of a GCM that has none).
    """
    if "imperfect" not in group.kinds:
        return []
    rows = []
    test = group.split("test")
    if "perfect" in group.kinds and len(test):
        ours, own = (_sample(group, kind, test, year_starts) for kind in ("imperfect", "perfect"))
        rows += predictor_shift(ours, own, store.channels, area)
    index = group.split("train")
    sample = _sample(group, "imperfect", index if len(index) else np.arange(len(group.days)), year_starts)
    for pair in train_on:
        name, _, kind = pair.partition("/")
        learned = store.groups.get(name)
        if learned is not None and kind in learned.kinds and len(learned.split("train")) and (name, kind) != (group.name, "imperfect"):
            rows += predictor_shift(sample, _sample(learned, kind, learned.split("train"), year_starts), store.channels, area)
    return rows


def _sample(group: PairGroup, kind: str, index: np.ndarray, year_starts: int) -> PredictorSample:
    return PredictorSample(group, kind, index, TimeTable(group.days[index], group.calendar, year_starts))


def signal_rows(store: PairStore, group: PairGroup, index: np.ndarray, maker: GroupTable, scores: GroupScores) -> list[dict[str, Any]]:
    """alpha of every imperfect prediction: whose change of the mean it follows; needs the GCM's own variable and two periods."""
    if "imperfect" not in group.kinds or len(maker.table.periods) < 2:
        return []
    gcm = _gcm_means(store, group, index, maker.table)
    rows = []
    for (run, kind, name), series in scores.predictions.items():
        for season in maker.table.seasons:
            own = gcm.get((name, season))
            maps = [maker.change_map(one, "mean", season, name) for one in (series, scores.truth[name])]
            if kind == "imperfect" and own is not None and maps[0] is not None and maps[1] is not None:
                change = maker.change_map(own, "mean", season, name)
                if change is not None:
                    rows.append(
                        {
                            "run": run,
                            "case": f"{group.name}/{kind}",
                            "variable": name,
                            "statistic": "mean",
                            "season": season,
                            "alpha": signal_followed(maps[0], change, maps[1], maker.area),
                            "n_days": len(maker.table.days),
                        }
                    )
    return rows


def _gcm_means(store: PairStore, group: PairGroup, index: np.ndarray, table: TimeTable) -> dict[tuple[str, str], FieldScores]:
    """The GCM's own field of each target's name, bilinear on the fine grid: means of the first and last period."""
    first = group.surface("imperfect", index[:1])[0]
    present = [position for position in range(len(store.targets)) if np.isfinite(first[position]).any()]
    if not present:
        return {}
    weights = bilinear_weights(store.coarse, store.fine)
    result: dict[tuple[str, str], FieldScores] = {}
    for selection in table.selections:
        if selection.period not in (table.periods[0], table.periods[-1]):
            continue
        coarse = _surface_mean(group, index[selection.rows])
        for position in present:
            fine = weights.apply(coarse[position][None].astype(np.float64))[0]
            own = result.setdefault((store.targets[position], selection.season), FieldScores(store.fine.shape))
            own.maps["mean", selection.season, selection.period] = fine
    return result


def _surface_mean(group: PairGroup, index: np.ndarray) -> np.ndarray:
    """(target, y, x) mean of the surface fields over some days; NaN where a day is missing."""
    total = sum(
        group.surface("imperfect", index[start : start + SURFACE_DAYS]).sum(axis=0, dtype=np.float64)
        for start in range(0, len(index), SURFACE_DAYS)
    )
    return np.asarray(total) / len(index)
