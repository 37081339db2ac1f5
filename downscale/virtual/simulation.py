"""One chain of a GCM and the RCM it drives: fields of any month, the same whoever asks and in whatever order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import fft

from downscale.virtual import atmosphere, geometry, surface, waves
from downscale.virtual.clock import Month, Period, count_days, months
from downscale.virtual.terrain import Land, Terrain
from downscale.virtual.world import EARTH_RADIUS, GCMS, GcmParameters, Size, World, warming

METRES_PER_DEGREE = EARTH_RADIUS * math.pi / 180.0


@dataclass(frozen=True)
class Chain:
    """A GCM, by its place in world.GCMS, one of its periods, and the RCM run that it drives.

    Methods that take a Month return fields (days, cells) float32, cells in row-major order of the grid.
    """

    world: World
    size: Size
    gcm_index: int
    period: Period

    @property
    def gcm(self) -> GcmParameters:
        """The GCM's parameters."""
        return GCMS[self.gcm_index]

    @cached_property
    def rcm_grid(self) -> geometry.RcmGrid:
        """The RCM grid."""
        return geometry.rcm_grid(self.world, self.size)

    @cached_property
    def gcm_grid(self) -> geometry.GcmGrid:
        """The GCM grid."""
        return geometry.gcm_grid(self.world, self.size, self.gcm)

    @property
    def rcm_land(self) -> Land:
        """Fixed fields on the RCM grid, (y, x)."""
        return _rcm_land(self.world, self.size)

    @property
    def gcm_land(self) -> Land:
        """Fixed fields on the GCM grid, (y, x), smooth."""
        return _gcm_land(self.world, self.size, self.gcm)

    def months(self, first: int, last: int) -> list[Month]:
        """Months of the years first to last, which must lie in the period; starts count from the period's first day."""
        return [month for month in months(self.period.first, self.period.last, self.gcm.calendar) if first <= month.year <= last]

    def gcm_state(self, month: Month) -> atmosphere.State:
        """The GCM's air on its own grid."""
        place = self._gcm_place
        return atmosphere.complete(self._gcm_linear(place, month), place, self.world)

    def rcm_state(self, month: Month) -> atmosphere.State:
        """The RCM's air: its driver's at the boundary, its own weather with part of the driver's bias inside."""
        place = self._rcm_place
        inside = self._linear(place, month, self._weather.rcm, self.world.retained_bias)
        return atmosphere.complete(self._gcm_linear(place, month).towards(inside, self._taper), place, self.world)

    def rcm_response(self, state: atmosphere.State, month: Month) -> surface.Response:
        """What a state of the RCM's air says about its surface."""
        return surface.respond(state, self._rcm_flat, month.phase)

    def rcm_surface(self, response: surface.Response, month: Month) -> dict[str, np.ndarray]:
        """The RCM's tas, tasmax and pr: one realisation of the response."""
        return surface.draw(response, self._normals(self._rcm_noise, month, 3))

    def gcm_surface(self, state: atmosphere.State, month: Month) -> dict[str, np.ndarray]:
        """The GCM's tas, tasmax and pr on its smooth land, with weather noise of its own."""
        response = surface.respond(state, self._gcm_flat, month.phase)
        return surface.draw(response, self._normals(self._gcm_noise, month, 4))

    @cached_property
    def _rcm_flat(self) -> Land:
        return self.rcm_land.flat()

    @cached_property
    def _gcm_flat(self) -> Land:
        return self.gcm_land.flat()

    @cached_property
    def _waves(self) -> waves.Waves:
        return waves.make_waves(self.world)

    @cached_property
    def _weather(self) -> waves.Weather:
        days = count_days(self.period.first, self.period.last, self.gcm.calendar)
        return waves.weather(self.world, self._waves, self.gcm, (self.gcm_index, self.period.first), days)

    @cached_property
    def _rcm_place(self) -> atmosphere.Place:
        return self._place(self.rcm_grid.lon.ravel(), self.rcm_grid.lat.ravel())

    @cached_property
    def _gcm_place(self) -> atmosphere.Place:
        lon, lat = np.meshgrid(self.gcm_grid.lon, self.gcm_grid.lat)
        return self._place(lon.ravel(), lat.ravel())

    @cached_property
    def _taper(self) -> np.ndarray:
        return geometry.taper(self.size).ravel().astype(np.float32)

    @cached_property
    def _rcm_noise(self) -> CorrelatedNoise:
        return CorrelatedNoise(self.rcm_grid.lon.shape, self.size.resolution * METRES_PER_DEGREE, self.world.noise_length_km * 1e3)

    @cached_property
    def _gcm_noise(self) -> CorrelatedNoise:
        shape = (len(self.gcm_grid.lat), len(self.gcm_grid.lon))
        return CorrelatedNoise(shape, self.gcm_grid.spacing * METRES_PER_DEGREE, self.world.noise_length_km * 1e3)

    def _place(self, lon: np.ndarray, lat: np.ndarray) -> atmosphere.Place:
        x, y = geometry.plane(self.world, lon, lat)
        return atmosphere.Place(y, lat, waves.basis(self._waves, x, y), self._waves.kx, self._waves.ky)

    def _linear(self, place: atmosphere.Place, month: Month, amplitudes: np.ndarray, bias: float) -> atmosphere.Linear:
        part = amplitudes[:, month.start : month.start + month.size]
        linear = atmosphere.waves_at(self.world, self.gcm, place, part)
        warmth = warming(self.gcm.sensitivity, month.year)
        return atmosphere.add_means(linear, place, self.gcm, phase=month.phase, warmth=warmth, bias=bias)

    def _gcm_linear(self, place: atmosphere.Place, month: Month) -> atmosphere.Linear:
        return self._linear(place, month, self._weather.gcm, 1.0)

    def _normals(self, noise: CorrelatedNoise, month: Month, stream: int) -> np.ndarray:
        rng = np.random.default_rng([self.world.seed, self.gcm_index, month.year, month.month, stream])
        return noise.draw(rng, 4 * month.size).reshape(4, month.size, -1)


class CorrelatedNoise:
    """Gaussian fields with correlation exp(-(r / length)**2), unit variance, independent of each other.

    Made by filtering white noise on a periodic grid that is wide enough for the ends not to meet.
    """

    def __init__(self, shape: tuple[int, int], cell_m: float, length_m: float) -> None:
        self._shape = shape
        padding = math.ceil(2.5 * length_m / cell_m)
        ny, nx = (fft.next_fast_len(n + padding, real=True) for n in shape)
        ky, kx = fft.fftfreq(ny, cell_m)[:, None], fft.rfftfreq(nx, cell_m)[None, :]
        kernel = np.exp(-((np.pi * length_m) ** 2) * (kx**2 + ky**2) / 2.0)
        both = np.where((kx == 0) | ((nx % 2 == 0) & (np.arange(kx.size) == nx // 2)[None, :]), 1.0, 2.0)
        self._kernel = (kernel / np.sqrt(np.sum(both * kernel**2) / (ny * nx))).astype(np.float32)
        self._padded = (ny, nx)

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, y, x) float32."""
        white = rng.standard_normal((count, *self._padded), dtype=np.float32)
        smooth = fft.irfft2(fft.rfft2(white) * self._kernel, s=self._padded)
        return smooth[:, : self._shape[0], : self._shape[1]]


@lru_cache(maxsize=2)
def _rcm_land(world: World, size: Size) -> Land:
    grid = geometry.rcm_grid(world, size)
    return Terrain(world, size.resolution * METRES_PER_DEGREE).on(*geometry.plane(world, grid.lon, grid.lat))


@lru_cache(maxsize=8)
def _gcm_land(world: World, size: Size, gcm: GcmParameters) -> Land:
    grid = geometry.gcm_grid(world, size, gcm)
    width = grid.spacing * METRES_PER_DEGREE
    x, y = geometry.plane(world, *np.meshgrid(grid.lon, grid.lat))
    return Terrain(world, size.resolution * METRES_PER_DEGREE).mean_on(x, y, (width * math.cos(math.radians(world.centre_lat)), width))


def blocks(chain: Chain, first: int, last: int) -> Iterator[tuple[Month, atmosphere.State, surface.Response, dict[str, np.ndarray]]]:
    """The RCM run month by month: month, state of the air, response, and surface fields."""
    for month in chain.months(first, last):
        state = chain.rcm_state(month)
        response = chain.rcm_response(state, month)
        yield month, state, response, chain.rcm_surface(response, month)
