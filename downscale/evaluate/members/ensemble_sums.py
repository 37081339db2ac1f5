"""What the scores of one ensemble's variable are made of, filled by blocks of days in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from downscale.evaluate.metrics.probabilistic import bin_of, complete, fair_crps, probability, probability_bins, rank_counts
from downscale.evaluate.metrics.season_means import Bins, DayMeans

QUANTITIES = ("crps", "variance", "squared_error")


@dataclass(frozen=True, eq=False)
class Threshold:
    """An event: at or above a threshold.

    Attributes:
        label: in names of metrics, "10mm" or "p90".
        number, unit: as it was asked for: an amount in working units, or a share with the unit "quantile".
        values: the threshold of each cell (cell,), or one for all, working units.
    """

    label: str
    number: float
    unit: str
    values: np.ndarray | float


@dataclass(eq=False)
class Reliability:
    """Binned probabilities of one event.

    Attributes:
        threshold: of the event.
        sums: (bin, 4) area-weighted sums of the probability, of events and of cases, and the number of cases.
        brier: squared error of the probability.
    """

    threshold: Threshold
    sums: np.ndarray
    brier: DayMeans

    def add(self, segment: int, forecast: np.ndarray, observed: np.ndarray, area: np.ndarray) -> None:
        """Add days of one segment: probability and event (time, cell), NaN where there is no case."""
        valid = np.isfinite(forecast) & np.isfinite(observed)
        place = bin_of(forecast[valid], len(self.sums))
        weight = np.broadcast_to(area, forecast.shape)[valid]
        for column, values in enumerate((forecast[valid] * weight, observed[valid] * weight, weight, np.ones(len(weight)))):
            self.sums[:, column] += np.bincount(place, values, len(self.sums))
        self.brier.add(segment, np.square(forecast - observed))


@dataclass(eq=False)
class Envelope:
    """Whether the highest reference day of each year lies between the lowest and the highest of the members' highest days.

    Attributes:
        years: (year, 3) area where it does, area where it lies above, area with values.
    """

    area: np.ndarray
    years: np.ndarray
    _year: int = -1
    _tops: np.ndarray | None = None

    def add(self, year: int, members: np.ndarray, reference: np.ndarray) -> None:
        """Add days (member, time, cell) and (time, cell) of one year, NaN missing; years come one after the other."""
        with np.errstate(invalid="ignore"):
            tops = np.concatenate([np.fmax.reduce(reference, axis=0)[None], np.fmax.reduce(members, axis=1)])
            if year != self._year:
                self.close()
                self._year, self._tops = year, tops
            elif self._tops is not None:
                self._tops = np.fmax(self._tops, tops)

    def close(self) -> None:
        """Count the year that is whole now."""
        if self._tops is None:
            return
        reference, members = self._tops[0], self._tops[1:]
        valid = complete(members, reference)
        above = valid & (reference > members.max(axis=0))
        inside = valid & ~above & (reference >= members.min(axis=0))
        self.years[self._year] += [self.area[chosen].sum() for chosen in (inside, above, valid)]
        self._tops = None


@dataclass(eq=False)
class EnsembleSums:
    """All sums.

    Attributes:
        bins: of the test days.
        area: (cell,) weights of the region's cells.
        members: their number.
        thresholds: of events.
        means: name -> mean over days.
        ranks: (segment, rank) area-weighted shares; ranked: number of cases of each segment.
        events: reliability of each threshold.
    """

    bins: Bins
    area: np.ndarray
    members: int
    thresholds: Sequence[Threshold]
    means: dict[str, DayMeans] = field(init=False)
    ranks: np.ndarray = field(init=False)
    ranked: np.ndarray = field(init=False)
    events: list[Reliability] = field(init=False)
    envelope: Envelope = field(init=False)

    def __post_init__(self) -> None:
        segments, main = len(self.bins.of_segment), self.bins.table.selections[0]
        self.means = {name: DayMeans(self.bins, self.area) for name in QUANTITIES}
        self.ranks, self.ranked = np.zeros((segments, self.members + 1)), np.zeros(segments)
        bins = probability_bins(self.members)
        self.events = [Reliability(one, np.zeros((bins, 4)), DayMeans(self.bins, self.area)) for one in self.thresholds]
        self.envelope = Envelope(self.area, np.zeros((len(main.years), 3)))
        members = self.bins.table.membership(main)
        self._year = np.where(members.any(axis=0), members.argmax(axis=0), -1)

    def add(self, start: int, members: np.ndarray, reference: np.ndarray) -> None:
        """Add consecutive days from place ``start``: (member, time, cell) and (time, cell), working units, NaN missing."""
        of_day = self.bins.of_day[start : start + len(reference)]
        for segment in np.unique(of_day):
            days = np.flatnonzero(of_day == segment)
            self._add(int(segment), members[:, days], reference[days])

    def _add(self, segment: int, members: np.ndarray, reference: np.ndarray) -> None:
        valid = complete(members, reference)
        self.means["crps"].add(segment, fair_crps(members, reference))
        self.means["variance"].add(segment, np.where(valid, members.var(axis=0, ddof=1, dtype=np.float64), np.nan))
        self.means["squared_error"].add(segment, np.square(members.mean(axis=0, dtype=np.float64) - reference))
        self.ranks[segment] += rank_counts(members, reference, self.area)
        self.ranked[segment] += valid[:, self.area > 0].sum()
        for event in self.events:
            forecast = np.where(valid, probability(members, event.threshold.values), np.nan)
            observed = np.where(valid, reference >= event.threshold.values, np.nan)
            event.add(segment, forecast, observed, self.area)
        if self._year[segment] >= 0:
            masked = np.where(valid, members, np.nan), np.where(valid, reference, np.nan)
            self.envelope.add(int(self._year[segment]), *masked)
