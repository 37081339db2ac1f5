"""Spectra of the truth and of every prediction of a group, a few hundred days at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from downscale.evaluate.metrics.spectra import RadialSpectrum, effective_resolution_km, log_spectral_distance
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.publish import spectra_dataset
from downscale.evaluate.scorecard import TRUTH, Score
from downscale.evaluate.selection import ALL_PERIODS, TimeTable
from downscale.pairs.store import PairGroup

log = logging.getLogger(__name__)
BLOCK_DAYS = 256
BLOCK_BYTES = 24 * 2**20
"""Of the float32 fields of one series that are transformed at a time; double precision makes about ten times as much of them."""
MIN_CELLS = 8
Series = tuple[str, str, str]


@dataclass(eq=False)
class SpectralPass:
    """Collects spectra of all groups.

    Attributes:
        shape: of the fine maps.
        spacing: distance of cells along y and x, km.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    spectra: dict[Series, RadialSpectrum] = field(default_factory=dict)
    sizes: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def add_group(
        self, group: PairGroup, targets: Sequence[str], index: np.ndarray, table: TimeTable, predictions: Sequence[Prediction]
    ) -> None:
        """Add a group's test days; domains with missing cells or fewer than 8 cells a side have no spectrum."""
        if min(self.shape) < MIN_CELLS:
            log.info("no spectra: the domain has only %d x %d cells", *self.shape)
            return
        self.sizes[group.name] = (table.seasons[0], len(index), len(np.unique(table.year)))
        truth = {name: self._new(TRUTH, f"{group.name}/{TRUTH}", name) for name in targets}
        step = int(np.clip(BLOCK_BYTES // (4 * self.shape[0] * self.shape[1]), 1, BLOCK_DAYS))
        for start in range(0, len(index), step):
            fields = group.target(index[start : start + step])
            for position, name in enumerate(targets):
                truth[name].add(fields[:, position])
        for prediction in predictions:
            for name in prediction.variables:
                spectrum = self._new(prediction.run, prediction.case, name)
                with prediction.reader(name, table.days, table.calendar) as reader:
                    for start in range(0, len(index), step):
                        spectrum.add(reader.read(days=slice(start, start + step)))

    def _new(self, run: str, case: str, name: str) -> RadialSpectrum:
        self.spectra[run, case, name] = RadialSpectrum(self.shape, self.spacing)
        return self.spectra[run, case, name]

    def dataset(self) -> xr.Dataset:
        """All spectra that have a day."""
        found = {key: spectrum for key, spectrum in self.spectra.items() if spectrum.days}
        if not found:
            return spectra_dataset([], np.zeros(0), np.zeros((0, 0)))
        wavenumber = next(iter(found.values())).wavenumber
        return spectra_dataset(list(found), wavenumber, np.stack([spectrum.power for spectrum in found.values()]))

    def scores(self) -> list[Score]:
        """Log spectral distance (dB) and effective resolution (km) of every prediction, on all test days and the whole domain."""
        rows = []
        for (run, case, name), spectrum in self.spectra.items():
            group = case.partition("/")[0]
            truth = self.spectra.get((TRUTH, f"{group}/{TRUTH}", name))
            if run == TRUTH or truth is None or not spectrum.days or not truth.days:
                continue
            season, n_days, n_years = self.sizes[group]
            for metric, value, unit in (
                ("log_spectral_distance", log_spectral_distance(spectrum.power, truth.power), "dB"),
                ("effective_resolution", effective_resolution_km(spectrum.wavenumber, spectrum.power, truth.power), "km"),
            ):
                rows.append(
                    Score(
                        run,
                        case,
                        name,
                        metric,
                        "all",
                        season,
                        ALL_PERIODS,
                        value,
                        np.nan,
                        np.nan,
                        unit,
                        n_days,
                        n_years,
                        self.shape[0] * self.shape[1],
                        "none: one mean spectrum",
                    )
                )
        return rows
