"""Large-scale weather: plane waves whose amplitudes are first-order autoregressive and whose phases travel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from downscale.virtual.world import GcmParameters, World

SETS = ("z850", "t850", "t700", "t500", "r850", "r500")
_DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Waves:
    """Plane waves exp(i (kx x + ky y)).

    Attributes:
        kx, ky: (n,) wave vectors, m-1. length: (n,) wavelengths, m.
        weight: (n,) share of variance; sums to 1.
        step: (n,) complex factor from one day to the next: memory and travel.
    """

    kx: np.ndarray
    ky: np.ndarray
    length: np.ndarray
    weight: np.ndarray
    step: np.ndarray


def make_waves(world: World) -> Waves:
    """Wavelengths spread evenly in log space, directions around zonal, phase speeds from 8 m s-1 (short) to 4 m s-1 (long) eastward."""
    rng = np.random.default_rng([world.seed, 101])
    place = (np.arange(world.waves) + rng.uniform(0.1, 0.9, world.waves)) / world.waves
    length = world.wave_shortest * (world.wave_longest / world.wave_shortest) ** place * 1e3
    angle = np.clip(rng.normal(0.0, 0.75, world.waves), -1.4, 1.4)
    k = 2.0 * np.pi / length
    kx, ky = k * np.cos(angle), k * np.sin(angle)
    memory = world.memory_days * (length / 1e6) ** 0.7
    speed = 9.0 * (1.0 - length / 9e6)
    step = np.exp(-1.0 / memory - 1j * kx * speed * _DAY)
    weight = length**world.redness
    return Waves(kx, ky, length, weight / weight.sum(), step)


def basis(waves: Waves, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(2 n, cells) float32: with coefficients [Re a, Im a] the product is Re(sum a exp(i k.x)). x, y: plane metres, flattened."""
    theta = np.outer(waves.kx, x.ravel()) + np.outer(waves.ky, y.ravel())
    return np.concatenate([np.cos(theta), -np.sin(theta)]).astype(np.float32)


def amplitudes(waves: Waves, rng: np.random.Generator, days: int) -> np.ndarray:
    """(sets, days, n) complex stationary AR(1) series; each set makes a field of unit variance."""
    shape = (len(SETS), days, len(waves.weight))
    shocks = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    shocks *= np.sqrt(waves.weight)
    shocks[:, 1:] *= np.sqrt(1.0 - np.abs(waves.step) ** 2)
    for day in range(1, days):
        shocks[:, day] += waves.step * shocks[:, day - 1]
    return shocks


def mix(world: World, a: np.ndarray) -> np.ndarray:
    """Independent sets to physical amplitudes (z850 m, t850, t700, t500 K, r850, r500 latents), (sets, days, n).

    Warm and moist air lies ahead of a trough, where the wind comes from the south (i times z850 leads by a quarter wave); upper
    temperature follows the lower; the two humidities share a part. The weights of each sum
    have unit length.
    """
    z, t, m, u, q, r = a
    t850 = 0.45j * z + 0.893 * t
    t500 = 0.5 * t850 + 0.2 * z + 0.843 * u
    r850 = -0.3 * z + 0.35j * z + 0.888 * q
    r500 = -0.2 * z + 0.3j * z + 0.35 * q + 0.865 * r
    low = world.sd_t850 * t850
    high = world.sd_t500 * t500
    middle = 0.61 * low + 0.39 * high + world.sd_t700 * m
    return np.stack([world.sd_z850 * z, low, middle, high, world.sd_r850 * r850, world.sd_r500 * r500])


def gcm_filter(waves: Waves, gcm: GcmParameters) -> np.ndarray:
    """(n,) factor on the true amplitudes that gives the GCM's: variance ratio, smoothing and tilt."""
    smooth = np.exp(-((gcm.cutoff_km * 1e3 / waves.length) ** 2))
    return np.sqrt(gcm.variance_ratio) * smooth * (waves.length / 2e6) ** gcm.tilt


@dataclass(frozen=True, eq=False)
class Weather:
    """One period of one model chain: physical amplitudes (sets, days, n) of the GCM and of the RCM's interior."""

    gcm: np.ndarray
    rcm: np.ndarray


def weather(world: World, waves: Waves, gcm: GcmParameters, seed: tuple[int, ...], days: int) -> Weather:
    """Weather of one period. The RCM drifts: cos(d) W + sin(d) D with sin(d) = world.drift and D an independent copy of W."""
    own = amplitudes(waves, np.random.default_rng([world.seed, *seed, 1]), days)
    other = amplitudes(waves, np.random.default_rng([world.seed, *seed, 2]), days)
    drifted = np.sqrt(1.0 - world.drift**2) * own + world.drift * other
    return Weather(mix(world, own * gcm_filter(waves, gcm)), mix(world, drifted))
