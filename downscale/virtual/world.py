"""Every number of the virtual climate. Fixed once; never adjusted to what an emulator makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from downscale.errors import ConfigError

LEVELS = (850, 700, 500)
EARTH_RADIUS = 6_371_229.0
GRAVITY = 9.80665
GAS_CONSTANT = 287.05
CORIOLIS = 1e-4
FIRST_SCENARIO_YEAR = 2015


@dataclass(frozen=True)
class Size:
    """How many cells; everything else about the grids follows (see geometry).

    Attributes:
        coarse_cells: cells along a side of the coarse box; even.
        target_cells: RCM cells along a side of the target.
        relaxation_cells: RCM cells at each side in which the RCM is relaxed to its driver.
        cover: width of the RCM inside its relaxation zone over the width of the coarse box (great-circle degrees at the equator).
    """

    coarse_cells: int
    target_cells: int
    relaxation_cells: int = 8
    cover: float = 1.32
    coarse_degrees: float = 2.0

    @property
    def resolution(self) -> float:
        """RCM cell size in rotated degrees: the target is 0.88 of the coarse box wide."""
        return round(0.88 * self.coarse_degrees * self.coarse_cells / self.target_cells, 6)

    @property
    def rcm_cells(self) -> int:
        """RCM cells along a side, relaxation included; of the target's parity, so that the target is central."""
        inner = math.ceil(round(self.cover * self.coarse_degrees * self.coarse_cells / self.resolution, 4))
        return inner + (inner - self.target_cells) % 2 + 2 * self.relaxation_cells

    @property
    def taper_cells(self) -> int:
        """RCM cells from the boundary over which the RCM's own weather takes over."""
        return self.relaxation_cells + self.relaxation_cells // 2

    @property
    def domain_id(self) -> str:
        """Name of the RCM domain in file names, e.g. VRT-44."""
        return f"VRT-{round(self.resolution * 100):02d}"


SIZES = {
    "tiny": Size(4, 12, relaxation_cells=2, cover=1.12),
    "small": Size(8, 32),
    "mlbench": Size(16, 128),
}


def find_size(size: str | int | Size) -> Size:
    """A preset by name, or N coarse cells with 4 N target cells at 0.44 degree (N even, 4 to 16); ConfigError otherwise."""
    if isinstance(size, Size):
        return size
    text = str(size)
    if text in SIZES:
        return SIZES[text]
    if text.isdigit() and int(text) % 2 == 0 and 4 <= int(text) <= 16:
        return Size(int(text), 4 * int(text))
    raise ConfigError(
        f"unknown size '{size}' of the virtual climate",
        where=f"known: {', '.join(SIZES)}, or an even number of coarse cells from 4 to 16",
        hint="--size small is the demo's",
    )


@dataclass(frozen=True)
class World:
    """Place, weather and regional model: what all runs share.

    Attributes:
        centre_lon, centre_lat: of all boxes, degrees. Low latitude, where boxes in degrees and in kilometres agree; the dynamics
            are those of an f-plane (CORIOLIS), so latitude is only a label.
        pole_lon, pole_lat: of the RCM's rotated grid.
        waves: number of plane waves; wavelengths from wave_shortest to wave_longest km.
        redness: variance of a wave goes with wavelength ** redness.
        sd_z850, sd_t850, sd_t700, sd_t500: m and K, at the heart of the storm track; t700 is what is not in between.
        sd_r850, sd_r500: of the humidity latents.
        drift: sd of (RCM - GCM) large-scale weather over that of the weather, inside the RCM; variance is kept.
        retained_bias: share of the GCM's mean bias that reaches the RCM's interior.
    """

    seed: int = 0
    centre_lon: float = 4.0
    centre_lat: float = 10.0
    pole_lon: float = 179.0
    pole_lat: float = 77.0
    waves: int = 28
    wave_shortest: float = 950.0
    wave_longest: float = 5000.0
    redness: float = 1.5
    memory_days: float = 1.2
    sd_z850: float = 42.0
    sd_t850: float = 3.4
    sd_t700: float = 0.7
    sd_t500: float = 2.6
    sd_r850: float = 1.5
    sd_r500: float = 1.5
    storm_track_floor: float = 0.65
    storm_track_gain: float = 0.5
    storm_track_width_km: float = 900.0
    drift: float = 0.25
    retained_bias: float = 0.5
    noise_length_km: float = 90.0


@dataclass(frozen=True)
class GcmParameters:
    """What makes one global model another; the known differences that an emulator meets.

    Attributes:
        calendar: of the GCM and of the RCM it drives.
        spacing, offset: of the grid in degrees; cell edges at offset + whole multiples of spacing.
        lon_360, lat_descending: how its files are laid out.
        ta_bias: K at 850, 700, 500 hPa. rh_bias: on the humidity latents at 850, 500 hPa.
        zg_bias: m at all levels (heights also follow ta_bias hydrostatically). jet_bias: m s-1 of mean zonal wind.
        seasonal_factor: amplitude of its seasonal cycle of temperature over the true one.
        variance_ratio: of its weather to the true one, before smoothing.
        cutoff_km: a wave of length L keeps exp(-(cutoff/L)**2) of its amplitude.
        tilt: and is multiplied by (L / 2000 km)**tilt; negative: rougher.
        storm_track_shift_km: northward; belongs to its climate, so its RCM run has it too.
        sensitivity: K per doubling of CO2, transient; its RCM run has it too.
    """

    name: str
    calendar: str = "standard"
    spacing: float = 2.0
    offset: float = 0.0
    lon_360: bool = False
    lat_descending: bool = False
    ta_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rh_bias: tuple[float, float] = (0.0, 0.0)
    zg_bias: float = 0.0
    jet_bias: float = 0.0
    seasonal_factor: float = 1.0
    variance_ratio: float = 1.0
    cutoff_km: float = 300.0
    tilt: float = 0.0
    storm_track_shift_km: float = 0.0
    sensitivity: float = 2.0


GCMS = (
    GcmParameters("VGCM-A", ta_bias=(0.3, 0.2, 0.1), rh_bias=(0.05, 0.0), cutoff_km=350.0),
    GcmParameters(
        "VGCM-B",
        "360_day",
        2.0,
        1.0,
        True,
        True,
        ta_bias=(1.5, 1.0, 0.3),
        rh_bias=(0.4, 0.25),
        zg_bias=8.0,
        jet_bias=1.5,
        variance_ratio=0.8,
        cutoff_km=750.0,
        storm_track_shift_km=400.0,
        sensitivity=2.9,
    ),
    GcmParameters(
        "VGCM-C",
        "noleap",
        1.875,
        0.9375,
        ta_bias=(-0.5, -1.0, -2.0),
        zg_bias=-12.0,
        seasonal_factor=0.75,
        variance_ratio=1.25,
        cutoff_km=450.0,
        storm_track_shift_km=-150.0,
        sensitivity=2.4,
    ),
    GcmParameters(
        "VGCM-D",
        "standard",
        2.5,
        0.0,
        True,
        False,
        ta_bias=(0.8, 0.5, 0.5),
        rh_bias=(-0.6, -0.5),
        jet_bias=-2.0,
        cutoff_km=200.0,
        tilt=-0.3,
        storm_track_shift_km=-500.0,
        sensitivity=1.5,
    ),
)
"""The global models in the order in which ``--gcms N`` takes them."""


def ghg(year: int) -> float:
    """CO2-equivalent, ppm: a smooth rise through 370 in 1997 and 1100 in 2092."""
    return 280.0 * math.exp(0.28 * math.exp((year - 1997) / 60.0))


def solar(year: int) -> float:
    """Total solar irradiance, W m-2, with an 11-year cycle."""
    return 1361.0 + 0.5 * math.cos(2.0 * math.pi * (year - 2001) / 11.0)


def warming(sensitivity: float, year: int) -> float:
    """Warming of a year above 280 ppm and mean sun, K: sensitivity * log2(GHG / 280) + 0.12 K per W m-2."""
    return sensitivity * math.log2(ghg(year) / 280.0) + 0.12 * (solar(year) - 1361.0)
