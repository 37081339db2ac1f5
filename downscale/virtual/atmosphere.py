"""Large-scale state of the air: linear fields from wave amplitudes and means, then heights, winds and humidity that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from downscale.virtual.world import CORIOLIS, GAS_CONSTANT, GRAVITY, LEVELS, GcmParameters, World

State = dict[str, np.ndarray]
"""Fields (days, cells) float32: zg, ta, hus, ua, va at each level (names as zg850), rh850, rh500 (0-1) and psl (Pa)."""


@dataclass(frozen=True)
class Climate:
    """Mean state at the centre; tuples run over 850, 700, 500 hPa or over the humidity latents at 850, 500 hPa.

    Attributes:
        ta_mean, ta_season: K; half the summer-winter difference. ta_gradient: K m-1 northward decrease, 30 % stronger in winter.
        ta_warming: warming over the world's, 12 % more in summer. amplification: more of it per metre northward, m-1.
        r_mean, r_season: latents. r_warming: change per K of warming, in summer (winter: the opposite).
        zg_mean, zg_season: m at 850 hPa. jet: mean zonal wind at 850 hPa, m s-1, 40 % stronger in winter.
        coldest: phase of the year of the coldest day.
    """

    ta_mean: tuple[float, float, float] = (278.5, 268.5, 252.5)
    ta_season: tuple[float, float, float] = (8.0, 7.0, 5.5)
    ta_gradient: tuple[float, float, float] = (6.0e-6, 5.7e-6, 5.2e-6)
    ta_warming: tuple[float, float, float] = (1.0, 1.12, 1.3)
    amplification: float = 6e-8
    r_mean: tuple[float, float] = (0.55, -0.45)
    r_season: tuple[float, float] = (-0.45, 0.0)
    r_warming: float = -0.05
    zg_mean: float = 1475.0
    zg_season: float = 22.0
    jet: float = 4.0
    coldest: float = 0.055


CLIMATE = Climate()


@dataclass(frozen=True, eq=False)
class Linear:
    """The fields everything else follows from, each (field, days, cells).

    Attributes:
        value: z850, t850, t700, t500, r850, r500 (waves.SETS). east, north: derivatives of the first four, per metre.
    """

    value: np.ndarray
    east: np.ndarray
    north: np.ndarray

    def towards(self, other: Linear, weight: np.ndarray) -> Linear:
        """(1 - weight) of this and weight of the other; weight (cells,). Values and derivatives are relaxed alike."""
        return Linear(*(a + weight * (b - a) for a, b in ((self.value, other.value), (self.east, other.east), (self.north, other.north))))


@dataclass(frozen=True, eq=False)
class Place:
    """Where fields are wanted: plane coordinates (cells,) m, latitude degrees, and the wave basis there (2 n, cells)."""

    y: np.ndarray
    latitude: np.ndarray
    basis: np.ndarray
    kx: np.ndarray
    ky: np.ndarray


def season_wave(phase: np.ndarray) -> np.ndarray:
    """-1 in mid-January, +1 in mid-July."""
    return -np.cos(2.0 * np.pi * (phase - CLIMATE.coldest))


def storm_track(world: World, gcm: GcmParameters, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor on the wave amplitudes of heights and temperatures at y (m), and its northward derivative (m-1)."""
    width = world.storm_track_width_km * 1e3
    s = (y - gcm.storm_track_shift_km * 1e3) / width
    bump = world.storm_track_gain * np.exp(-s * s)
    return world.storm_track_floor + bump, -2.0 * s / width * bump


def waves_at(world: World, gcm: GcmParameters, place: Place, amplitudes: np.ndarray) -> Linear:
    """Wave part of the linear fields. amplitudes: (6, days, n) complex."""
    dynamic = amplitudes[:4]
    stack = np.concatenate([amplitudes, 1j * place.kx * dynamic, 1j * place.ky * dynamic])
    fields = _product(np.concatenate([stack.real, stack.imag], axis=-1).astype(np.float32), place.basis)
    envelope, change = (part.astype(np.float32) for part in storm_track(world, gcm, place.y))
    north = fields[10:] * envelope + fields[:4] * change
    fields[:4] *= envelope
    return Linear(fields[:6], fields[6:10] * envelope, north)


def _product(stack: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """(fields, days, 2 n) times (2 n, cells), in pieces small enough for BLAS to stay in one thread.

    One process a core writes files; BLAS threads on top of that double the processor time.
    """
    rows = stack.reshape(-1, stack.shape[-1])
    result = np.empty((len(rows), basis.shape[1]), dtype=np.float32)
    high = 32
    wide = max(1, 200_000 // (high * rows.shape[1]))
    for i in range(0, len(rows), high):
        for j in range(0, basis.shape[1], wide):
            np.matmul(rows[i : i + high], basis[:, j : j + wide], out=result[i : i + high, j : j + wide])
    return result.reshape(*stack.shape[:-1], -1)


def add_means(linear: Linear, place: Place, gcm: GcmParameters, *, phase: np.ndarray, warmth: float, bias: float) -> Linear:
    """Adds, in place, the mean state of each day and `bias` times the GCM's mean bias.

    Args:
        linear: wave part; changed.
        phase: (days,) of the year. warmth: warming of the year, K.
        bias: 1 for the GCM itself, world.retained_bias in the RCM's interior, 0 for the truth without bias.
    """
    c, s, y = CLIMATE, season_wave(phase)[:, None], place.y[None, :]
    slope = -CORIOLIS / GRAVITY * (c.jet * (1.0 - 0.4 * s) + bias * gcm.jet_bias)
    linear.value[0] += (c.zg_mean + c.zg_season * s + bias * gcm.zg_bias + slope * y).astype(np.float32)
    linear.north[0] += slope.astype(np.float32)
    for i in range(3):
        gradient = -c.ta_gradient[i] * (1.0 - 0.3 * s) + c.ta_warming[i] * warmth * c.amplification
        level = c.ta_mean[i] + c.ta_season[i] * s + c.ta_warming[i] * warmth * (1.0 + 0.12 * s)
        level = level + bias * (gcm.ta_bias[i] + (gcm.seasonal_factor - 1.0) * c.ta_season[i] * s)
        linear.value[i + 1] += (level + gradient * y).astype(np.float32)
        linear.north[i + 1] += gradient.astype(np.float32)
    for i in range(2):
        linear.value[i + 4] += (c.r_mean[i] + c.r_season[i] * s + c.r_warming * warmth * s + bias * gcm.rh_bias[i]).astype(np.float32)
    return linear


def saturation(temperature: np.ndarray, pressure_hpa: float) -> np.ndarray:
    """Saturation specific humidity over water, kg/kg: Bolton (1980, eq. 10) vapour pressure."""
    celsius = temperature - np.float32(273.15)
    vapour = np.float32(6.112) * np.exp(np.float32(17.67) * celsius / (celsius + np.float32(243.5)))
    return np.float32(0.622) * vapour / (np.float32(pressure_hpa) - np.float32(0.378) * vapour)


def squash(latent: np.ndarray) -> np.ndarray:
    """Humidity latent to relative humidity: 0.08 + 0.92 / (1 + exp(-latent))."""
    return np.float32(0.08) + np.float32(0.92) / (1.0 + np.exp(-latent))


def complete(linear: Linear, place: Place, world: World) -> State:
    """Heights by the hypsometric equation, winds geostrophic on the f-plane, humidity from relative humidity, pressure at sea level.

    u = -g/f dz/dy, v = g/f dz/dx with derivatives along true east and north, so that finite differences of zg on any grid give the winds.
    """
    state: State = {}
    z, east, north = (part[0] for part in (linear.value, linear.east, linear.north))
    metric = (np.cos(np.radians(world.centre_lat)) / np.cos(np.radians(place.latitude))).astype(np.float32)
    factor = np.float32(GRAVITY / CORIOLIS)
    for i, level in enumerate(LEVELS, start=1):
        if i > 1:
            half = np.float32(0.5 * GAS_CONSTANT / GRAVITY * np.log(LEVELS[i - 2] / level))
            z = z + half * (linear.value[i] + linear.value[i - 1])
            east = east + half * (linear.east[i] + linear.east[i - 1])
            north = north + half * (linear.north[i] + linear.north[i - 1])
        state[f"zg{level}"], state[f"ta{level}"] = z, linear.value[i]
        state[f"ua{level}"], state[f"va{level}"] = -factor * north, factor * metric * east
    humid = {850: linear.value[4], 700: np.float32(0.5) * (linear.value[4] + linear.value[5]), 500: linear.value[5]}
    for level, latent in humid.items():
        rh = squash(latent)
        state[f"hus{level}"] = rh * saturation(state[f"ta{level}"], float(level))
        state[f"rh{level}"] = rh
    mean = state["ta850"] + np.float32(0.5 * 0.0055) * state["zg850"]
    state["psl"] = np.float32(85_000.0) * np.exp(np.float32(GRAVITY / GAS_CONSTANT) * state["zg850"] / mean)
    return state
