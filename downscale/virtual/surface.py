"""How the land answers the air: a nonlinear function of the large-scale state at a cell, plus noise that no predictor can know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma, log_ndtr, ndtr

from downscale.virtual.atmosphere import CLIMATE, State, season_wave
from downscale.virtual.terrain import Land


@dataclass(frozen=True)
class Physics:
    """The numbers of the fine response. Temperatures in K, winds m s-1, heights m, precipitation mm day-1."""

    lapse_floor: float = 0.0035
    lapse_share: float = 0.45
    snow_cooling: float = 6.0
    snow_temperature: float = 274.0
    snow_width: float = 1.0
    pool_cooling: float = 11.0
    pool_lapse: float = 0.0062
    pool_lapse_width: float = 0.0008
    pool_wind: float = 10.0
    foehn_warming: float = 4.0
    foehn_scale: float = 0.07
    breeze_cooling: float = 5.0
    breeze_wind: float = 4.0
    sea_share: float = 0.55
    sea_mean: float = 287.0
    sea_season: float = 4.5
    sea_lag: float = 0.12
    range_floor: float = 2.4
    range_mean: float = 8.0
    range_season: float = 4.0
    cloud_humidity: float = 0.62
    cloud_width: float = 0.055
    wet_offset: float = -0.9
    wet_humidity: float = 0.085
    wet_upper: float = 0.13
    wet_lift: float = 2.2
    wet_lee: float = 1.6
    wet_instability: float = 0.45
    lift_scale: float = 0.05
    rain_base: float = 0.38
    rain_upper: float = 1.4
    rain_lift: float = 1.9
    rain_convective: float = 0.12
    rain_shape: float = 0.7
    noise_tas: float = 0.5
    noise_tasmax: float = 0.65
    noise_sea: float = 0.6
    noise_shared: float = 0.7


PHYSICS = Physics()


@dataclass(frozen=True, eq=False)
class Response:
    """What the state says about the surface, (days, cells) float32.

    Attributes:
        tas, tasmax: conditional means, K. wet: probability of rain. scale: Weibull scale of the amount on a wet day, mm day-1.
        noise_tas, noise_tasmax: (cells,) standard deviation of what is left, K.
    """

    tas: np.ndarray
    tasmax: np.ndarray
    wet: np.ndarray
    scale: np.ndarray
    noise_tas: np.ndarray
    noise_tasmax: np.ndarray

    def mean(self, name: str) -> np.ndarray:
        """E[y | state] of tas, tasmax (K) or pr (mm day-1: wet scale Gamma(1 + c))."""
        if name == "pr":
            return self.wet * self.scale * np.float32(gamma(1.0 + PHYSICS.rain_shape))
        return self.tas if name == "tas" else self.tasmax

    def variance(self, name: str) -> np.ndarray:
        """Var[y | state]; pr: wet scale^2 Gamma(1 + 2c) - mean^2."""
        if name == "pr":
            return self.wet * self.scale**2 * np.float32(gamma(1.0 + 2.0 * PHYSICS.rain_shape)) - self.mean("pr") ** 2
        sd = self.noise_tas if name == "tas" else self.noise_tasmax
        return np.broadcast_to(sd**2, self.tas.shape)


def respond(state: State, land: Land, phase: np.ndarray) -> Response:
    """The response F of flat fixed fields to a state; phase (days,) of the year."""
    s = season_wave(phase)[:, None].astype(np.float32)
    free = _free_air(state, land)
    tas, tasmax = _temperatures(state, land, s, free, phase)
    wet, scale = _rain(state, land, s)
    p = PHYSICS
    dry_land = land.land + np.float32(p.noise_sea) * (1.0 - land.land)
    return Response(tas, tasmax, wet, scale, np.float32(p.noise_tas) * dry_land, np.float32(p.noise_tasmax) * dry_land)


def draw(response: Response, normals: np.ndarray) -> dict[str, np.ndarray]:
    """One realisation of tas, tasmax (K) and pr (mm day-1). normals: (4, days, cells) standard normal, correlated in space."""
    shared, own, occurrence, amount = normals
    share = np.float32(PHYSICS.noise_shared)
    tas = response.tas + response.noise_tas * shared
    tasmax = response.tasmax + response.noise_tasmax * (share * shared + np.sqrt(1.0 - share * share) * own)
    size = response.scale * (-log_ndtr(-amount)) ** np.float32(PHYSICS.rain_shape)
    pr = np.where(ndtr(occurrence) < response.wet, size, np.float32(0.0))
    return {"tas": tas, "tasmax": np.maximum(tas, tasmax), "pr": pr}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _lapse(state: State) -> np.ndarray:
    """K m-1 between 850 and 700 hPa."""
    return (state["ta850"] - state["ta700"]) / (state["zg700"] - state["zg850"])


def _free_air(state: State, land: Land) -> np.ndarray:
    """Air temperature at the height of the ground: above 850 hPa along the lapse rate of the day, below it with a damped one."""
    lapse = _lapse(state)
    depth = state["zg850"] - land.height
    below = np.float32(PHYSICS.lapse_floor) + np.float32(PHYSICS.lapse_share) * lapse
    return state["ta850"] + depth * np.where(depth > 0, below, lapse)


def _downslope(state: State, land: Land) -> np.ndarray:
    """Vertical speed along the slope, positive downwards, m s-1."""
    return -(state["ua850"] * land.slope_x + state["va850"] * land.slope_y)


def _temperatures(state: State, land: Land, s: np.ndarray, free: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = PHYSICS
    light = np.float32(0.6) + np.float32(0.4) * s
    humid = np.float32(0.65) * state["rh850"] + np.float32(0.35) * state["rh500"]
    cloud = _sigmoid((humid - np.float32(p.cloud_humidity)) / np.float32(p.cloud_width))
    snow = _sigmoid((np.float32(p.snow_temperature) - free) / np.float32(p.snow_width)) * land.land
    speed2 = state["ua850"] ** 2 + state["va850"] ** 2
    calm = np.exp(-speed2 / np.float32(p.pool_wind**2))
    stable = _sigmoid((np.float32(p.pool_lapse) - _lapse(state)) / np.float32(p.pool_lapse_width))
    pool = land.valley * stable * calm * np.maximum(0.75 - light, 0.0) / np.float32(0.55) * (1.0 - np.float32(0.6) * cloud)
    foehn = np.tanh(np.maximum(_downslope(state, land), 0.0) / np.float32(p.foehn_scale)) * land.land
    onshore = np.tanh(np.maximum(state["ua850"] * land.inland_x + state["va850"] * land.inland_y, 0.0) / np.float32(p.breeze_wind))
    breeze = land.coast * land.land * onshore
    lagged = season_wave(phase - p.sea_lag)[:, None].astype(np.float32)
    normal = np.float32(CLIMATE.ta_mean[0] + 8.2) + np.float32(CLIMATE.ta_season[0]) * s
    sea = np.float32(p.sea_mean) + np.float32(p.sea_season) * lagged + np.float32(p.sea_share) * (free - normal)
    sunny = np.float32(0.5) + np.float32(0.5) * light
    ground = free + np.float32(p.foehn_warming) * foehn - np.float32(p.pool_cooling) * pool
    ground = ground - np.float32(p.snow_cooling) * snow * sunny - np.float32(p.breeze_cooling) * breeze * s
    clear = (1.0 - np.float32(0.9) * cloud) * (1.0 - np.float32(0.5) * snow) * (1.0 - np.float32(0.5) * breeze)
    daily = np.float32(p.range_floor) + (np.float32(p.range_mean) + np.float32(p.range_season) * s) * clear
    tas = land.land * ground + (1.0 - land.land) * sea
    return tas, tas + np.float32(0.5) * (land.land * daily + (1.0 - land.land) * np.float32(p.range_floor))


def _rain(state: State, land: Land, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of rain and scale of its amount, from humidity at two levels, lifting at slopes, lee drying and instability."""
    p = PHYSICS
    down = _downslope(state, land) / np.float32(p.lift_scale)
    lift, lee = np.maximum(-down, 0.0), np.tanh(np.maximum(down, 0.0))
    unstable = (state["ta850"] - state["ta500"] - np.float32(26.0)) / np.float32(4.0) + np.float32(0.4) * s
    logit = (
        np.float32(p.wet_offset)
        + (state["rh850"] - np.float32(0.7)) / np.float32(p.wet_humidity)
        + (state["rh500"] - np.float32(0.45)) / np.float32(p.wet_upper)
        + np.float32(p.wet_instability) * unstable
        + np.float32(p.wet_lift) * np.tanh(lift)
        - np.float32(p.wet_lee) * lee
    )
    grams = state["hus850"] * np.float32(1000.0)
    convective = np.logaddexp(np.float32(0.0), np.float32(1.5) * unstable) * np.float32(p.rain_convective)
    lifted = np.float32(p.rain_lift) * lift / (1.0 + np.float32(0.35) * lift) * state["rh850"] ** 2
    rate = np.float32(p.rain_base) + np.float32(p.rain_upper) * state["rh500"] ** 3 + lifted + convective
    return _sigmoid(logit), grams * rate
