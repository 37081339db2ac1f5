"""Land of the virtual world: fixed fields as functions of the plane, so that every grid sees the same mountains and coast."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from downscale.virtual.world import World

_KM = 1e3


@dataclass(frozen=True, eq=False)
class Land:
    """Fixed fields on a grid, each (y, x) float32.

    Attributes:
        height: m, 0 over sea. land: fraction 0-1.
        slope_x, slope_y: eastward and northward slope of the height, 1.
        valley: 0-1, how much lower than its surroundings a place lies.
        coast: 0-1, near the coast. inland_x, inland_y: unit vector that points from sea to land.
    """

    height: np.ndarray
    land: np.ndarray
    slope_x: np.ndarray
    slope_y: np.ndarray
    valley: np.ndarray
    coast: np.ndarray
    inland_x: np.ndarray
    inland_y: np.ndarray

    def flat(self) -> Land:
        """The same with cells in one axis."""
        return Land(*(getattr(self, field.name).ravel() for field in fields(self)))


class Terrain:
    """The seeded continent: sea in the west, a curved range inland, lesser ridges, hills and basins.

    Args:
        world: for its seed.
        cell_m: grid spacing; noise with waves shorter than two cells is damped, as a cell mean would.
    """

    def __init__(self, world: World, cell_m: float) -> None:
        rng = np.random.default_rng([world.seed, 202])
        self._coast = _Noise(rng, 220.0, 1400.0, 1.6, cell_m)
        self._hills = _Noise(rng, 80.0, 900.0, 1.1, cell_m)
        self._ridges = _Noise(rng, 150.0, 700.0, 0.8, cell_m)
        self._where = _Noise(rng, 900.0, 2500.0, 1.0, cell_m)
        self._bend = float(rng.uniform(-0.5, 0.5))
        self._cell = cell_m

    def landness(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Signed distance-like field in km, 0 at the coast, positive inland."""
        return (x / _KM + 0.25 * y / _KM + 190.0) * 0.8 + 170.0 * self._coast(x, y)

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height in m, 0 over sea."""
        inland = _rise(self.landness(x, y), 110.0)
        axis = (x - 330.0 * _KM) * 0.94 - y * 0.34 + self._bend * y * y / (900.0 * _KM)
        chain = np.exp(-((axis / (150.0 * _KM)) ** 2)) * (0.75 + 0.25 * np.tanh(1.5 * self._hills(x, y)))
        crests = (1.0 - np.minimum(np.abs(self._ridges(x, y)), 1.0)) ** 2
        highland = _rise(self._where(x, y), 0.8)
        raw = 120.0 + 1900.0 * chain * (0.55 + 0.45 * crests) + 1250.0 * highland * crests + 230.0 * (1.0 + np.tanh(self._hills(x, y)))
        return inland * raw

    def slope(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eastward and northward slope over one cell, 1."""
        d = self._cell / 2.0
        return ((self.height(x + d, y) - self.height(x - d, y)) / (2 * d), (self.height(x, y + d) - self.height(x, y - d)) / (2 * d))

    def on(self, x: np.ndarray, y: np.ndarray) -> Land:
        """All fixed fields at the places (y, x) in plane metres."""
        distance = self.landness(x, y)
        height = self.height(x, y)
        slope_x, slope_y = self.slope(x, y)
        angles = np.arange(8) * np.pi / 4.0
        around = np.mean([self.height(x + 110.0 * _KM * np.cos(a), y + 110.0 * _KM * np.sin(a)) for a in angles], axis=0)
        land = 1.0 / (1.0 + np.exp(-distance / 18.0))
        valley = np.clip((around - height + 80.0) / 300.0, 0.0, 1.0) * land
        d = 10.0 * _KM
        gx, gy = self.landness(x + d, y) - self.landness(x - d, y), self.landness(x, y + d) - self.landness(x, y - d)
        norm = np.hypot(gx, gy) + 1e-9
        parts = (height, land, slope_x, slope_y, valley, np.exp(-((distance / 170.0) ** 2)), gx / norm, gy / norm)
        return Land(*(np.asarray(part, dtype=np.float32) for part in parts))

    def mean_on(self, x: np.ndarray, y: np.ndarray, width: tuple[float, float]) -> Land:
        """The smooth land of a coarse model: height and land averaged over 8 x 8 points of each cell, no slopes, valleys or coast effects.

        Args:
            x, y: cell centres (y, x), m. width: cell size in both directions, m.
        """
        steps = (np.arange(8) - 3.5) / 8.0
        points = [(x + a * width[0], y + b * width[1]) for a in steps for b in steps]
        height = np.mean([self.height(*point) for point in points], axis=0).astype(np.float32)
        land = np.mean([1.0 / (1.0 + np.exp(-self.landness(*point) / 18.0)) for point in points], axis=0).astype(np.float32)
        zero = np.zeros_like(height)
        return Land(height, land, zero, zero, zero, zero, zero, zero)


class _Noise:
    """Smooth random field of unit variance: 160 plane waves of wavelengths short to long km, amplitude ~ wavelength ** power."""

    def __init__(self, rng: np.random.Generator, short: float, long: float, power: float, cell_m: float) -> None:
        n = 160
        length = short * (long / short) ** rng.uniform(0.0, 1.0, n) * _KM
        angle = rng.uniform(0.0, 2.0 * np.pi, n)
        self._k = 2.0 * np.pi / length * np.stack([np.cos(angle), np.sin(angle)])
        self._phase = rng.uniform(0.0, 2.0 * np.pi, n)
        amplitude = length**power
        amplitude *= np.sqrt(2.0 / np.sum(amplitude**2))
        self._amplitude = amplitude * np.exp(-((0.8 * cell_m / length) ** 2) * 2.0)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        theta = np.multiply.outer(x, self._k[0]) + np.multiply.outer(y, self._k[1]) + self._phase
        return np.cos(theta) @ self._amplitude


def _rise(value: np.ndarray, scale: float) -> np.ndarray:
    """0 below zero, smoothly to 1 well above scale."""
    return 1.0 - np.exp(-np.square(np.maximum(value, 0.0) / scale))
