"""Spatial power spectra: is there as much small-scale variance as in the truth?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import fft

EARTH_RADIUS_KM = 6371.0
RESOLVED_POWER = 0.5
ROUNDING = 1e-12
"""Of the other spectrum's power: what is below is rounding, and the field constant."""


def spacing_km(lat: np.ndarray, lon: np.ndarray) -> tuple[float, float]:
    """Mean great-circle distance of neighbouring cell centres along y and along x, km; (ny, nx) degrees."""
    phi, lam = np.deg2rad(lat), np.deg2rad(lon)
    points = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        chord = np.linalg.norm(one - other, axis=0)
        return float(np.mean(2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0, 1))))

    return distance(points[:, 1:], points[:, :-1]), distance(points[:, :, 1:], points[:, :, :-1])


def detrended(fields: np.ndarray) -> np.ndarray:
    """Fields (time, y, x) minus their least-squares plane: a large-scale gradient would leak into all wavenumbers (Errico 1985)."""
    ny, nx = fields.shape[1:]
    y, x = np.linspace(-1, 1, ny), np.linspace(-1, 1, nx)
    values = fields - fields.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    slope_y = np.einsum("tyx,y->t", values, y) / (nx * (y @ y))
    slope_x = np.einsum("tyx,x->t", values, x) / (ny * (x @ x))
    return values - slope_y[:, None, None] * y[:, None] - slope_x[:, None, None] * x


@dataclass(eq=False)
class RadialSpectrum:
    """Radially averaged power spectral density, accumulated over days.

    The density of a field is |FFT2|^2 dx dy / (nx ny) (unit^2 km^2), averaged over rings of wavenumber |k| (1/km) one fundamental
    wide, from the fundamental to the Nyquist wavenumber of the coarser axis; corners of the wavenumber plane are left out.

    Attributes:
        shape: (ny, nx).
        spacing: distance of cells along y and x, km.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    days: int = 0
    total: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        (ny, nx), (dy, dx) = self.shape, self.spacing
        k = np.hypot(fft.fftfreq(ny, dy)[:, None], fft.rfftfreq(nx, dx)[None])
        width, nyquist = max(1 / (ny * dy), 1 / (nx * dx)), min(1 / (2 * dy), 1 / (2 * dx))
        ring = np.rint(k / width).astype(np.int64)
        n_rings = max(int(np.floor(nyquist / width + 1e-9)), 1)
        twice = np.full(k.shape, 2.0)
        twice[:, 0] = 1.0
        if nx % 2 == 0:
            twice[:, -1] = 1.0
        self._ring, self._weight, self._rings = ring.ravel(), twice.ravel(), n_rings
        count = np.bincount(self._ring, self._weight, minlength=n_rings + 1)
        self._count = count[1 : n_rings + 1]
        self.wavenumber = np.bincount(self._ring, self._weight * k.ravel(), minlength=n_rings + 1)[1 : n_rings + 1] / self._count
        self.total = np.zeros(n_rings)

    def rings(self, fields: np.ndarray) -> np.ndarray:
        """The density of each field (..., y, x) by ring (..., ring), unit^2 km^2; NaN for a field with a missing value."""
        (ny, nx), (dy, dx) = self.shape, self.spacing
        flat = fields.reshape(-1, ny, nx)
        power = np.abs(fft.rfft2(detrended(np.nan_to_num(flat)))) ** 2 * (dx * dy / (nx * ny) * self._weight.reshape(ny, -1))
        binned = np.stack([np.bincount(self._ring, one.ravel(), minlength=self._rings + 1)[1 : self._rings + 1] for one in power])
        whole = np.isfinite(flat).all(axis=(1, 2))
        return np.asarray(np.where(whole[:, None], binned / self._count, np.nan).reshape(*fields.shape[:-2], self._rings))

    def add(self, fields: np.ndarray) -> None:
        """Add days (time, y, x); days with a missing value are left out."""
        fields = fields[np.isfinite(fields).all(axis=(1, 2))]
        if not len(fields):
            return
        (ny, nx), (dy, dx) = self.shape, self.spacing
        power = (np.abs(fft.rfft2(detrended(fields))) ** 2).sum(axis=0) * dx * dy / (nx * ny)
        self.total += np.bincount(self._ring, self._weight * power.ravel(), minlength=self._rings + 1)[1 : self._rings + 1] / self._count
        self.days += len(fields)

    def merge(self, other: RadialSpectrum) -> None:
        """Add the days of a spectrum of the same grid."""
        self.total += other.total
        self.days += other.days

    @property
    def power(self) -> np.ndarray:
        """(ring,) mean over days, unit^2 km^2; NaN without a whole day."""
        return self.total / self.days if self.days else np.full(self._rings, np.nan)


def log_spectral_distance(prediction: np.ndarray, reference: np.ndarray) -> float:
    """sqrt(mean_k (10 log10(P_p / P_r))^2), dB (Harris et al. 2022, doi 10.1029/2022MS003120), over rings with power in both."""
    both = (prediction > 0) & (reference > 0)
    if not both.any() or _constant(prediction, reference) or _constant(reference, prediction):
        return float("nan")
    return float(np.sqrt(np.mean((10 * np.log10(prediction[both] / reference[both])) ** 2)))


def effective_resolution_km(wavenumber: np.ndarray, prediction: np.ndarray, reference: np.ndarray) -> float:
    """Wavelength (km) at which the predicted power first falls below half the reference's; the shortest one when it never does.

    NaN where the reference has no power: a constant field resolves nothing, and nothing is worse than it.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.flatnonzero(prediction / reference < RESOLVED_POWER)
    if not np.isfinite(prediction).all() or not np.isfinite(reference).all() or _constant(reference, prediction):
        return float("nan")
    return float(1 / wavenumber[low[0] if len(low) else -1])


def _constant(power: np.ndarray, other: np.ndarray) -> bool:
    """Whether a spectrum is that of fields that do not vary."""
    return not power.sum() > ROUNDING * other.sum()
