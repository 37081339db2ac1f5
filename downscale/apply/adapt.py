"""GCM predictors brought to the climate of the predictors that a run has learned from, by month and cell, with the GCM's own change kept.

No truth is read. Three methods (``apply.align``), G being the GCM, U the training predictors (RCMu) and all statistics those of the
training days within a common historical window (``apply.align_window``), for each cell, channel and calendar month:

``mean``: x* = x - mean_G + mean_U.

``gcm_align``: x* = (x - d - mean_G) / std_G * std_U + mean_U + d, where d is the GCM's own mean change since the window: that of the
month over as many years as the window has, around the day's year. Only what departs from d is scaled, so the change itself is neither
stretched nor lost. This is the delta-preserving scaling of deep4downscaling (scaling_delta_correction), with a running change in place
of one for a whole period.

``quantile``: x* = Q_U(F_G(x - d)) + d with the quantile function of U and the distribution function of G, see apply/quantiles.py: also
the shape of the distribution becomes that of U.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from downscale.apply.quantiles import monthly_quantiles, offsets
from downscale.errors import InputDataError
from downscale.pairs.normalise import blocks, compute_monthly

log = logging.getLogger(__name__)
METHODS = ("mean", "gcm_align", "quantile")
MONTH_DAYS = 10
"""A calendar month needs this many training days in the window on both sides."""


class Coarse(Protocol):
    """What alignment needs of a pair group."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def days(self) -> np.ndarray: ...  # noqa: D102
    def predictors(self, kind: str, index: np.ndarray) -> np.ndarray: ...  # noqa: D102
    def target(self, index: np.ndarray) -> np.ndarray: ...  # noqa: D102
    def scalars(self, index: np.ndarray) -> np.ndarray: ...  # noqa: D102
    def split(self, name: str) -> np.ndarray: ...  # noqa: D102


Case = tuple[Coarse, str]
"""A pair group, and "perfect" (RCMu) or "imperfect" (GCM)."""


@dataclass(frozen=True)
class Alignment:
    """How the predictors of one pair group are aligned; nothing is read before the first use.

    Attributes:
        method: one of METHODS.
        window: first and last year.
        source: the group to be aligned.
        training: what the run has learned from, pooled.
        positive: (C,) True for channels that cannot be negative: they are clipped at 0.
    """

    method: str
    window: tuple[int, int]
    source: Case
    training: Sequence[Case]
    positive: np.ndarray

    def __call__(self, maps: np.ndarray, days: np.ndarray) -> np.ndarray:
        """Maps (n, C, H, W) of the days (n,) yyyymmdd, aligned, float32.

        A missing cell stays missing, and one that either side never has in the window becomes missing.
        """
        month = days // 100 % 100 - 1
        change = self._change(days // 10000, month)
        if self.method == "quantile":
            result = maps + offsets(maps - change, month, *self._quantiles)
        else:
            result = self._scaled(maps, month, change)
        return np.where(self.positive[:, None, None], np.maximum(result, 0.0), result).astype(np.float32)

    def _scaled(self, maps: np.ndarray, month: np.ndarray, change: np.ndarray | float) -> np.ndarray:
        result: np.ndarray = (maps - change - self._source[0][month]) * self._ratio[month] + self._training[0][month] + change
        return result

    @cached_property
    def _source(self) -> tuple[np.ndarray, np.ndarray]:
        return _monthly([self.source], self.window)

    @cached_property
    def _training(self) -> tuple[np.ndarray, np.ndarray]:
        return _monthly(self.training, self.window)

    @cached_property
    def _quantiles(self) -> tuple[np.ndarray, np.ndarray]:
        return monthly_quantiles([_windowed(self.source, self.window)]), monthly_quantiles(
            [_windowed(case, self.window) for case in self.training]
        )

    @cached_property
    def _ratio(self) -> np.ndarray:
        """(12, C, H, W) std_U / std_G; 1 for ``mean``, and where a cell never changes on either side (its std stands at 1)."""
        source, training = self._source[1], self._training[1]
        if self.method == "mean":
            return np.ones_like(source)
        return np.where((source == 1.0) | (training == 1.0), 1.0, training / source)

    @cached_property
    def _years(self) -> tuple[np.ndarray, np.ndarray]:
        """The years of the source, and its change since the window (years, 12, C, H, W), running means."""
        group, kind = self.source
        years = np.unique(group.days // 10000)
        plane = self._source[0].shape
        sums, counts = np.zeros((len(years), *plane)), np.zeros((len(years), *plane))
        for index in blocks(np.arange(len(group.days))):
            maps, days = group.predictors(kind, index), group.days[index]
            for stamp in np.unique(days // 100).tolist():
                some = maps[days // 100 == stamp].astype(np.float64)
                at = (int(np.searchsorted(years, stamp // 100)), stamp % 100 - 1)
                sums[at] += np.nan_to_num(some).sum(axis=0)
                counts[at] += np.isfinite(some).sum(axis=0)
        change = np.empty_like(sums)
        for place, around in enumerate(_around(years, self.window[1] - self.window[0] + 1)):
            with np.errstate(invalid="ignore"):
                change[place] = sums[around].sum(axis=0) / counts[around].sum(axis=0) - self._source[0]
        return years, change

    def _change(self, year: np.ndarray, month: np.ndarray) -> np.ndarray | float:
        if self.method == "mean":
            return 0.0
        years, change = self._years
        return np.asarray(change[np.searchsorted(years, year), month])

    def arrays(self) -> dict[str, np.ndarray]:
        """What was fitted, float32: means and stds or quantiles (12, ..., C, H, W) of both sides, and the change by year and month."""
        found = {"source_mean": self._source[0], "training_mean": self._training[0]}
        if self.method == "gcm_align":
            found |= {"source_std": self._source[1], "training_std": self._training[1]}
        if self.method == "quantile":
            found |= {"source_quantiles": self._quantiles[0], "training_quantiles": self._quantiles[1]}
        if self.method != "mean":
            found |= {"change_years": self._years[0], "change": self._years[1]}
        return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}

    def words(self) -> str:
        """For attributes and logs."""
        on = ", ".join(f"{group.name}/{kind}" for group, kind in self.training)
        return f"{self.method} to {on} by month and cell, training days of {self.window[0]} to {self.window[1]}"


def align(
    method: str, window: tuple[int, int], source: Case, training: Sequence[Case], positive: Sequence[bool], days: np.ndarray
) -> Alignment:
    """An alignment of a pair group's predictors, after a look at whether the window has days enough.

    Args:
        method: one of METHODS.
        window: first and last year, both included.
        source: the group to be aligned, and its kind.
        training: the groups that the run has learned from, and their kinds.
        positive: for each channel, whether it cannot be negative.
        days: those to be aligned, yyyymmdd; their months need numbers.

    Raises:
        InputDataError: a month has fewer than ten training days in the window on one of the sides.
    """
    needed = np.unique(days // 100 % 100)
    findings = []
    for side in ([source], list(training)):
        found = np.sum([np.bincount(group.days[within(group, window)] // 100 % 100, minlength=13) for group, _ in side], axis=0)
        few = [f"{month} ({found[month]})" for month in needed.tolist() if found[month] < MONTH_DAYS]
        if few:
            findings.append(f"{', '.join(f'{group.name}/{kind}' for group, kind in side)}: month(s) {', '.join(few)}")
    if findings:
        raise InputDataError(
            f"apply.align: fewer than {MONTH_DAYS} training days of a month in the window {window[0]} to {window[1]}",
            where="side: month (days)",
            hint="choose an apply.align_window that split.train and both runs cover, or apply.align: none",
            findings=findings,
        )
    return Alignment(method, window, source, training, np.asarray(positive, bool))


@dataclass
class AlignedGroup:
    """A pair group whose predictors of one kind are aligned as they are read; everything else is the group's own."""

    group: Any
    alignment: Alignment
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.group.name

    def predictors(self, kind: str, index: slice | np.ndarray) -> np.ndarray:
        """Predictor maps (n, C, H, W), aligned where ``kind`` is that of the alignment."""
        maps = self.group.predictors(kind, index)
        return self.alignment(maps, self.group.days[index]) if kind == self.alignment.source[1] else maps

    def __getattr__(self, name: str) -> Any:
        """All else as in the group."""
        return getattr(self.group, name)


@dataclass(frozen=True)
class _Window:
    """A pair group whose training days are those within the window."""

    group: Coarse
    window: tuple[int, int]

    @property
    def days(self) -> np.ndarray:
        return self.group.days

    def predictors(self, kind: str, index: np.ndarray) -> np.ndarray:
        return self.group.predictors(kind, index)

    def target(self, index: np.ndarray) -> np.ndarray:
        return self.group.target(index)

    def scalars(self, index: np.ndarray) -> np.ndarray:
        return self.group.scalars(index)

    def split(self, name: str) -> np.ndarray:
        return within(self.group, self.window) if name == "train" else self.group.split(name)


def alignment_facts(method: str, window: tuple[int, int], training: Sequence[Case], digests: Sequence[str]) -> dict[str, Any]:
    """What decides the numbers of an alignment, for the prediction's recipe; ``digests`` of the groups on both sides and of the split."""
    state = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return {"method": method, "window": list(window), "to": [f"{group.name}/{kind}" for group, kind in training], "pairs": state}


def _windowed(case: Case, window: tuple[int, int]) -> tuple[_Window, str]:
    return _Window(case[0], window), case[1]


def within(group: Coarse, window: tuple[int, int]) -> np.ndarray:
    """Training days of a group within the window."""
    index = group.split("train")
    year = group.days[index] // 10000
    return np.asarray(index[(year >= window[0]) & (year <= window[1])])


def _monthly(cases: Sequence[Case], window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    found = compute_monthly([_windowed(case, window) for case in cases])
    return found.mean, found.std


def _around(years: np.ndarray, length: int) -> Iterator[slice]:
    """For each year ``length`` years around it, shifted inwards at the ends of a stretch without gaps, all of it where it is shorter."""
    ends = [0, *(np.flatnonzero(np.diff(years) > 1) + 1).tolist(), len(years)]
    for first, last in pairwise(ends):
        for place in range(first, last):
            start = min(max(first, place - length // 2), max(first, last - length))
            yield slice(start, min(last, start + length))
