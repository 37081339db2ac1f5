"""Small pair groups for the tests of alignment: a GCM that is off, and the RCMu it is brought to."""

from __future__ import annotations

import numpy as np
from training_world import FakeGroup

WINDOW = (2000, 2003)


def days_in(years, months=(1, 7), length=10):
    return np.array([year * 10000 + month * 100 + day for year in years for month in months for day in range(1, length + 1)])


def group_of(name, maps, days, kind="imperfect", train=None):
    splits = {"train": np.arange(len(days)) if train is None else train, "validation": np.arange(0), "test": np.arange(0)}
    arrays = {kind: maps.astype("f4"), "scalars": np.zeros((len(days), 2), "f4"), "target": np.zeros((len(days), 1, 1, 1), "f4")}
    return FakeGroup(name, days, arrays, splits, (kind,))


def pair(seed=0, years=(2000, 2001, 2002, 2003, 2050, 2051, 2052, 2053), change=4.0):
    """A GCM that is 2 K too warm, with 1.5 times the variability, and RCMu; both warm by ``change`` in the later slice."""
    rng, days = np.random.default_rng(seed), days_in(years)
    later = np.where(days > 20400000, change, 0.0)[:, None, None, None]
    season = np.where(days // 100 % 100 == 7, 12.0, 0.0)[:, None, None, None]
    weather = rng.normal(size=(2, len(days), 1, 2, 2))
    rcmu = group_of("U", 280 + season + 2.0 * weather[0] + 0.9 * later, days, "perfect")
    gcm = group_of("G", 282 + 1.1 * season + 3.0 * weather[1] + later, days)
    return gcm, rcmu
