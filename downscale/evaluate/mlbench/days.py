"""The diagnostics of the CORDEX ML-Bench that go day by day over whole fields: spectra and spells; and what values a field has."""

from __future__ import annotations

import numpy as np
from scipy import fft

from downscale.evaluate.mlbench.cells import WET_MM
from downscale.evaluate.mlbench.plan import ALL, SEASONS, SeasonPlan

SPELLS = ("cdd", "cwd")


class DayPass:
    """One field, added in blocks of days in the order of time.

    Args:
        plan: the days.
        shape: (ny, nx).
        spells: count dry and wet spells.
    """

    def __init__(self, plan: SeasonPlan, shape: tuple[int, int], *, spells: bool) -> None:
        self.plan, self.shape = plan, shape
        self.low, self.high = np.inf, -np.inf
        self.missing = np.zeros(shape, bool)
        self.empty: list[int] = []
        self._power = {name: np.zeros((shape[0], shape[1] // 2 + 1)) for name in plan.slices}
        self._spells = _Spells(plan, shape) if spells else None

    def add(self, start: int, fields: np.ndarray) -> None:
        """Add days from position ``start`` on, (time, y, x) float32; NaN is missing."""
        finite = np.isfinite(fields)
        if not finite.all():
            self.missing |= ~finite.all(axis=0)
            self.empty += (start + np.flatnonzero(~finite.any(axis=(1, 2)))).tolist()
        if finite.any():
            self.low = min(self.low, float(np.fmin.reduce(fields, axis=None)))
            self.high = max(self.high, float(np.fmax.reduce(fields, axis=None)))
        self._add_power(start, fields if finite.all() else np.where(finite, fields, np.float32(0.0)))
        if self._spells is not None:
            self._spells.add(start, fields)

    def _add_power(self, start: int, fields: np.ndarray) -> None:
        season = self.plan.season[start : start + len(fields)]
        for number, name in enumerate(list(SEASONS)[1:]):
            chosen = np.flatnonzero(season == number)
            for few in np.array_split(chosen, max(len(chosen) // 16, 1)) if len(chosen) else ():
                spectrum = fft.rfft2(fields[few].astype(np.float64))
                self._power[name] += (np.square(spectrum.real) + np.square(spectrum.imag)).sum(axis=0)

    def spectrum(self, season: str) -> np.ndarray:
        """Mean over days of the power |FFT2|^2 of each whole field, averaged over rings of integer radius.

        The radius is the whole part of the distance from the middle of the shifted array, ((ny - 1) / 2, (nx - 1) / 2), corners included;
        nothing is detrended or tapered, and missing values count as 0.
        """
        half = sum(self._power.values()) if season == ALL else self._power[season]
        ny, nx = self.shape
        n_days = len(self.plan.days) if season == ALL else self.plan.slices[season].stop - self.plan.slices[season].start
        ky, kx = np.meshgrid(-np.arange(ny) % ny, np.arange(nx // 2 + 1, nx), indexing="ij")
        full = np.concatenate([half, np.asarray(half)[ky, nx - kx]], axis=1)
        y, x = np.indices((ny, nx))
        ring = np.hypot(x - (nx - 1) / 2.0, y - (ny - 1) / 2.0).astype(np.int64).ravel()
        return np.asarray(np.bincount(ring, fft.fftshift(full).ravel() / n_days) / np.bincount(ring))

    def spells(self) -> dict[tuple[str, str], np.ndarray]:
        """("cdd" or "cwd", season) -> (y, x) mean over years of the longest run; nothing where they are not counted."""
        return self._spells.result() if self._spells is not None else {}


class _Spells:
    """Longest runs of dry and of wet days in each calendar year and in each season of it, whose days are taken as one series."""

    def __init__(self, plan: SeasonPlan, shape: tuple[int, int]) -> None:
        self._plan = plan
        self._names = [ALL, *list(SEASONS)[1:]]
        self._run = np.zeros((len(self._names), 2, *shape), np.int16)
        self._longest = np.zeros_like(self._run)
        self._total = np.zeros(self._run.shape, np.int64)
        self._year: int | None = None

    def add(self, start: int, fields: np.ndarray) -> None:
        """Add days in the order of time."""
        for step, field in enumerate(fields, start):
            year = int(self._plan.year[step])
            if year != self._year:
                self._close()
                self._year = year
            holds = (field < WET_MM, field >= WET_MM)
            for series in (0, 1 + int(self._plan.season[step])):
                for run, longest, true in zip(self._run[series], self._longest[series], holds, strict=True):
                    run += 1
                    run *= true
                    np.maximum(longest, run, out=longest)

    def _close(self) -> None:
        self._total += self._longest
        self._longest[:] = 0
        self._run[:] = 0

    def result(self) -> dict[tuple[str, str], np.ndarray]:
        total = self._total + self._longest
        return {
            (spell, name): total[self._names.index(name), kind] / len(self._plan.segments[name])
            for kind, spell in enumerate(SPELLS)
            for name in self._plan.names
        }
