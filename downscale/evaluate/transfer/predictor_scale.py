"""At which scales a GCM varies more or less than RCMu: variance by wavelength on the coarse grid.

Each day's map, minus the mean map of its season, is expanded in cosines (type-II DCT), which need no periodic domain (Denis et al. 2002,
doi 10.1175/1520-0493(2002)130<1812:SDOTDA>2.0.CO;2). A coefficient of normalised wavenumber alpha = sqrt((m/ny)^2 + (n/nx)^2) has the
wavelength 2 spacing / alpha; powers are summed over octaves of wavelength, and the log ratio of two runs' sums is the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.fft import dctn

from downscale.evaluate.context import Context
from downscale.evaluate.metrics.spectra import spacing_km
from downscale.evaluate.selection import ALL_PERIODS
from downscale.evaluate.transfer.predictor_pairs import compared_pairs, sample
from downscale.evaluate.transfer.shift import PredictorSample, channel_blocks

TABLE = "predictor_scale"
COLUMNS = ("case", "against", "channel", "season", "wavelength_km", "log_power_ratio", "n_days")
MIN_CELLS = 3
Power = dict[tuple[str, str], np.ndarray]


def diagnose(context: Context) -> None:
    """Add predictor_scale.csv for every pair of the predictor-shift table; nothing on a grid of fewer than 3 cells a side."""
    context.extend(TABLE, COLUMNS, [])
    shape = context.store.coarse.shape
    if min(shape) < MIN_CELLS:
        return
    bands = octaves(shape, spacing_km(context.store.coarse.lat, context.store.coarse.lon))
    known: dict[tuple[str, bool], tuple[Power, dict[str, int]]] = {}
    for one, other in compared_pairs(context):
        paired = one[0] is other[0]
        for side in (one, other):
            key = f"{side[0].name}/{side[1]}", paired
            if key not in known:
                known[key] = powers(sample(context, side, paired=paired), context.store.channels, bands)
        names = [f"{group.name}/{kind}" for group, kind in (one, other)]
        (ours, sizes), (theirs, _) = known[names[0], paired], known[names[1], paired]
        rows = _rows(ours, theirs, sizes, bands)
        context.extend(TABLE, COLUMNS, [{"case": names[0], "against": names[1], **row} for row in rows])


def octaves(shape: tuple[int, ...], spacing: tuple[float, float]) -> list[tuple[float, np.ndarray]]:
    """Bands of wavelength, longest first: (wavelength in km, (ny, nx) True where a coefficient belongs to it).

    Octaves of alpha up to 1 (two cells); the corners beyond are left out. The wavelength of a band is 2 spacing / its geometric mean alpha.
    """
    alpha = np.hypot(*np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"))
    cell = float(np.sqrt(spacing[0] * spacing[1]))
    low, result = 1.0 / max(shape), []
    while low < 1.0 - 1e-9:
        high = 2.0 * low
        inside = (alpha >= low - 1e-9) & (alpha < high - 1e-9) & (alpha <= 1.0 + 1e-9)
        if inside.any():
            result.append((2.0 * cell / float(np.exp(np.log(alpha[inside]).mean())), inside))
        low = high
    return result


def powers(predictors: PredictorSample, channels: list[str], bands: list[tuple[float, np.ndarray]]) -> tuple[Power, dict[str, int]]:
    """(channel, season) -> (band,) mean power; NaN where a cell is missing. And the number of days of each season."""
    found: Power = {}
    chosen = [selection for selection in predictors.table.selections if selection.period == ALL_PERIODS]
    for block in channel_blocks(len(channels), len(predictors.index) * bands[0][1].size * 4):
        fields = predictors.channels(block)
        for position, channel in enumerate(channels[block]):
            for selection in chosen:
                values = fields[selection.rows, position].astype(np.float64)
                square = np.square(dctn(values - values.mean(axis=0), axes=(1, 2), norm="ortho")).mean(axis=0)
                found[channel, selection.season] = np.array([square[inside].sum() for _, inside in bands])
    return found, {selection.season: len(selection.rows) for selection in chosen}


def _rows(ours: Power, theirs: Power, sizes: dict[str, int], bands: list[tuple[float, np.ndarray]]) -> Iterator[dict[str, Any]]:
    for (channel, season), power in ours.items():
        if (channel, season) not in theirs:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            base = theirs[channel, season]
            ratio = np.where((power > 0) & (base > 0), np.log(power / base), np.nan)
        for (wavelength, _), value in zip(bands, ratio, strict=True):
            yield {
                "channel": channel,
                "season": season,
                "wavelength_km": wavelength,
                "log_power_ratio": float(value),
                "n_days": sizes[season],
            }
