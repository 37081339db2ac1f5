"""Weather regimes in the tables: how often each is, in which the emulators fail, and what they look like."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from downscale.errors import ConfigError
from downscale.evaluate.context import Context, cell_areas
from downscale.evaluate.metrics.bootstrap import no_interval, resampling, why_not
from downscale.evaluate.publish import write_dataset
from downscale.evaluate.selection import ALL_PERIODS, Selection, TimeTable
from downscale.evaluate.weather.anomalies import AnnualCycle, ChannelDays
from downscale.evaluate.weather.regime_scores import SCORE_COLUMNS, regime_scores
from downscale.evaluate.weather.regimes import NEW, Regimes, Stability, composites, fit_regimes
from downscale.pairs.store import PairGroup
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)
FREQUENCY_COLUMNS = ("case", "period", "season", "regime", "frequency", "lower", "upper", "reference_frequency", "n_days", "n_years")
STABILITY_COLUMNS = ("k", "stability", "chosen", "noise")
TRAINING = "training"
CHANNELS = ("zg500", "psl")


@dataclass(frozen=True, eq=False)
class Assigned:
    """The regime of each day of a case: (n,) 1 to k, 0 for weather that is like none of them."""

    case: str
    table: TimeTable
    regime: np.ndarray

    @property
    def by_day(self) -> dict[int, int]:
        """Day yyyymmdd -> regime."""
        return dict(zip(self.table.days.tolist(), self.regime.tolist(), strict=True))


def diagnose(context: Context) -> None:
    """Tables regime_frequency, regime_scores, regime_stability and regimes.nc; nothing where there is no channel or too few days."""
    options = context.options["regimes"]
    channel = find_channel(context.store.channels, str(options["channel"]))
    reference = _reference(context)
    if channel is None or reference is None:
        log.info("no weather regimes: %s", "neither zg500 nor psl among the predictors" if channel is None else "no training days")
        return
    (learned, learned_kind), area = reference, cell_areas(context.store.coarse).ravel()
    training = _days(context, learned, learned_kind, channel, "train")
    if not len(training.maps):
        return
    cycle = AnnualCycle.fit(training.table.days, training.table.calendar, training.maps)
    anomalies = training.anomalies(cycle, area, options["anomalies"])
    try:
        regimes, stability = fit_regimes(anomalies, area, options["number"])
    except ValueError as error:
        log.warning("no weather regimes of %s: %s", training.case, error)
        return
    known = Assigned(training.case, training.table, regimes.assign(anomalies)[0])
    assigned = []
    for case_group, case_kind in [(one, kind) for one in context.store.groups.values() for kind in one.kinds]:
        found = _days(context, case_group, case_kind, channel, "test" if case_group.has_truth and len(case_group.split("test")) else "")
        if len(found.maps):
            assigned.append(Assigned(found.case, found.table, regimes.assign(found.anomalies(cycle, area, options["anomalies"]))[0]))
    context.extend("regime_frequency", FREQUENCY_COLUMNS, frequency_rows(known, assigned, regimes.number))
    context.extend("regime_scores", SCORE_COLUMNS, regime_scores(context, {one.case: one.by_day for one in assigned}, regimes.number))
    context.extend("regime_stability", STABILITY_COLUMNS, _stability_rows(stability, regimes.number))
    maps = composites(anomalies, known.regime, regimes.number)
    write_dataset(context.folder / "regimes.nc", _dataset(context, maps, known, regimes, channel))


def find_channel(channels: Sequence[str], wanted: str) -> int | None:
    """Place of the channel that regimes are found in; None where "auto" finds none.

    Raises:
        ConfigError: there is no channel of this name.
    """
    if wanted != "auto" and wanted not in channels:
        raise ConfigError(
            f"evaluate.regimes.channel: '{wanted}' is not a predictor channel",
            where=f"channels: {', '.join(channels)}",
            hint="name one of them, or auto",
        )
    found = [name for name in (CHANNELS if wanted == "auto" else (wanted,)) if name in channels]
    return list(channels).index(found[0]) if found else None


def _reference(context: Context) -> tuple[PairGroup, str] | None:
    """The first training pairs' RCMu; their GCM where there is no RCMu."""
    for pair in context.train_on:
        name, _, kind = pair.partition("/")
        group = context.store.groups.get(name)
        if group is not None and len(group.split("train")):
            return group, "perfect" if "perfect" in group.kinds else kind
    return None


def _days(context: Context, group: PairGroup, kind: str, channel: int, split: str) -> ChannelDays:
    index = group.split(split) if split else np.arange(len(group.days))
    found = ChannelDays.read(context, group, kind, index, channel)
    if found.missing:
        log.info("%s: %d days with missing cells have no weather regime", found.case, found.missing)
    return found


def frequency_rows(training: Assigned, cases: Sequence[Assigned], number: int) -> Iterator[dict[str, Any]]:
    """Share of the days of each regime (0: of none), with 95 % intervals from whole years, and the same of the training days.

    Args:
        training: the days that the regimes were found on.
        cases: others, on their own days.
        number: of regimes.
    """
    usual: dict[tuple[str, int], float] = {}
    for selection in training.table.selections:
        if selection.period == ALL_PERIODS:
            for row in _frequencies(training, selection, number):
                usual[selection.season, int(row["regime"])] = row["frequency"]
                yield row | {"period": TRAINING, "reference_frequency": row["frequency"]}
    for one in cases:
        for selection in one.table.selections:
            for row in _frequencies(one, selection, number):
                yield row | {"reference_frequency": usual.get((selection.season, int(row["regime"])), np.nan)}


def _frequencies(one: Assigned, selection: Selection, number: int) -> Iterator[dict[str, Any]]:
    regime, year = one.regime[selection.rows], one.table.year_of(selection)
    reason = why_not(selection.strata)
    scheme = None if reason else resampling(selection.strata)
    days = np.array([(year == some).sum() for some in selection.years], float)
    for which in range(NEW, number + 1):
        counts = np.array([((year == some) & (regime == which)).sum() for some in selection.years], float)
        bounds = no_interval(reason)
        if scheme is not None:
            bounds = scheme.interval((scheme.weights @ counts) / (scheme.weights @ days), non_negative=True)
        yield {
            "case": one.case,
            "period": selection.period,
            "season": selection.season,
            "regime": which,
            "frequency": float(counts.sum() / days.sum()),
            "lower": bounds.lower,
            "upper": bounds.upper,
            "n_days": len(selection.rows),
            "n_years": len(selection.years),
        }


def _stability_rows(stability: Sequence[Stability], number: int) -> list[dict[str, Any]]:
    return [{"k": one.number, "stability": one.value, "chosen": int(one.number == number), "noise": one.noise} for one in stability]


def _dataset(context: Context, maps: np.ndarray, known: Assigned, regimes: Regimes, channel: int) -> xr.Dataset:
    grid = context.store.coarse
    name = context.store.channels[channel]
    anomaly = {"long_name": f"mean anomaly of {name}", "units": lookup(Channel.parse(name).variable).units}
    frequency = np.bincount(known.regime, minlength=regimes.number + 1)[1:] / max(len(known.regime), 1)
    return xr.Dataset(
        {
            "composite": (("regime", "y", "x"), maps.reshape(-1, *grid.shape), anomaly),
            "frequency": ("regime", frequency, {"long_name": "share of the training days", "units": "1"}),
        },
        coords={
            "regime": np.arange(1, regimes.number + 1),
            "lat": (("y", "x"), grid.lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": (("y", "x"), grid.lon, {"units": "degrees_east", "standard_name": "longitude"}),
        },
        attrs={
            "title": f"Weather regimes of {known.case}, training days",
            "channel": name,
            "explained_variance": regimes.explained,
            "n_days": len(known.regime),
            "limit": regimes.limit,
        },
    )
