"""The space in which the climates of network features are compared, and sums over days that say where in it a climate lies.

No PyTorch here: apply adds up the days of a prediction in it, and whoever compares climates reads what was added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

MOST_FEATURES = 512
_SEED = 20260101
_GRAIN = 2.0**14


@dataclass(frozen=True)
class Sums:
    """Sums over days of vectors z (n, G) of order one; those of several periods can be added.

    z is rounded to multiples of 2^-14 first, so that its sums are exact and do not depend on the order of the days or on blocks.

    Attributes:
        number: (1,) of the days.
        first: (G,) sum of z.
        second: (G, G) sum of z z'.
    """

    number: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Sums:
        """Of the days of (n, G)."""
        z = np.round(np.asarray(vectors, np.float64) * _GRAIN) / _GRAIN
        return cls(np.array([len(z)], np.float64), z.sum(axis=0), z.T @ z)

    def __add__(self, other: Sums) -> Sums:
        """Of the days of both."""
        return Sums(self.number + other.number, self.first + other.first, self.second + other.second)

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {f"{prefix}.{item.name}": np.ascontiguousarray(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], prefix: str) -> Sums:
        """From the arrays that ``tensors`` gave; KeyError where one is missing."""
        return cls(**{item.name: tensors[f"{prefix}.{item.name}"] for item in fields(cls)})


@dataclass(frozen=True)
class FeatureSpace:
    """Features (n, F) without their training mean, in units of the root of their mean training variance.

    One unit for all features, so that a feature that never moved in training counts where it moves later. More than 512 features are
    projected onto 512 random directions, which keeps squared distances to about 6 % (Johnson and Lindenstrauss 1984).

    Attributes:
        centre: (F,) mean over the training days.
        unit: (1,) root of the mean variance over the training days.
        training, held_out: sums over the training days and over the held-out days, in this space.
    """

    centre: np.ndarray
    unit: np.ndarray
    training: Sums
    held_out: Sums

    @classmethod
    def fit(cls, training: np.ndarray, held_out: np.ndarray) -> FeatureSpace | None:
        """Of features (n, F) of both; None where there are none, or no training day differs from another."""
        if not training.size:
            return None
        centre = training.mean(axis=0, dtype=np.float64)
        unit = np.sqrt(np.mean((training - centre) ** 2, keepdims=True).ravel())
        if not unit[0] > 0:
            return None
        return cls(centre, unit, *(Sums.of(_placed(part, centre, unit)) for part in (training, held_out)))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """z (n, G) of features (n, F)."""
        return _placed(features, self.centre, self.unit)

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays by name."""
        own = {f"{prefix}.centre": self.centre, f"{prefix}.unit": self.unit}
        return own | self.training.tensors(f"{prefix}.training") | self.held_out.tensors(f"{prefix}.held_out")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], prefix: str) -> FeatureSpace:
        """From the arrays that ``tensors`` gave; KeyError where one is missing."""
        parts = (Sums.from_tensors(tensors, f"{prefix}.{name}") for name in ("training", "held_out"))
        return cls(tensors[f"{prefix}.centre"], tensors[f"{prefix}.unit"], *parts)


def _placed(features: np.ndarray, centre: np.ndarray, unit: np.ndarray) -> np.ndarray:
    z = (np.asarray(features, np.float64) - centre) / unit[0]
    if z.shape[1] <= MOST_FEATURES:
        return z
    directions = np.random.default_rng(_SEED).standard_normal((z.shape[1], MOST_FEATURES)) / np.sqrt(MOST_FEATURES)
    return np.asarray(z @ directions)
