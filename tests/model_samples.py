"""Specs, inputs and ways between grids for the tests of models."""

from __future__ import annotations

import torch

from downscale.models import Inputs

SEASON = ["season_cos", "season_sin"]


def spec_of(name="resunet", *, coarse=(8, 8), fine=(32, 32), backbone="none", channels=3, scalars=SEASON, normalise="gridpoint", **more):
    return {
        "model": {"name": name, "width": 8, "backbone": backbone, "dropout": 0.0},
        "channels": [f"c{i}" for i in range(channels)],
        "targets": ["tas", "pr"],
        "scalars": list(scalars),
        "coarse_shape": list(coarse),
        "fine_shape": list(fine),
        "normalise": normalise,
        "transforms": {},
        "non_negative": ["pr"],
        "fixed": ["y", "x"] if name == "resunet" else [],
        **({"kernel": {"days": 5, "components": 4}} if name == "kernel_ridge" else {}),
        **more,
    }


def inputs_of(spec, n=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    y, x = spec["coarse_shape"]
    maps = torch.randn(n, len(spec["channels"]), y, x, generator=random) * 3 + 280
    surface = torch.randn(n, len(spec["targets"]), y, x, generator=random)
    return Inputs(maps, torch.rand(n, len(spec["scalars"]), generator=random), surface)


def nearest_way(coarse, fine):
    """Each fine cell takes the coarse cell above it."""
    y = torch.arange(fine[0]) * coarse[0] // fine[0]
    x = torch.arange(fine[1]) * coarse[1] // fine[1]
    index = (y[:, None] * coarse[1] + x).flatten()[:, None].repeat(1, 4)
    return index, torch.tensor([1.0, 0, 0, 0]).repeat(len(index), 1)


def parameters(module):
    return sum(value.numel() for value in module.parameters())
