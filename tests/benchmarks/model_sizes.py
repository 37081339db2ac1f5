"""Trainable parameters and multiply-adds of one day for each network, at the sizes of CORDEX ML-Bench: 15 x 16 x 16 -> 128 x 128.

python tests/benchmarks/model_sizes.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from downscale.models import Inputs, build

MODELS = (
    {"name": "unet_doury", "width": 64},
    {"name": "deepesd", "filters": 1},
    {"name": "deepesd", "filters": 10},
    {"name": "resunet", "width": 32},
    {"name": "resunet", "size": "small"},
    {"name": "resunet", "size": "base"},
    {"name": "resunet", "size": "base", "attention": True},
)


def measure(model: dict) -> tuple[int, float]:
    """Parameters and 10^9 multiply-adds of one day."""
    spec = {
        "model": model, "channels": [f"c{i}" for i in range(15)], "targets": ["tas"], "scalars": ["season_cos", "season_sin"],
        "coarse_shape": [16, 16], "fine_shape": [128, 128], "normalise": "map", "transforms": {}, "non_negative": [],
        "fixed": ["orog", "sftlf", "y", "x"] if model["name"] == "resunet" else [],
    }  # fmt: skip
    emulator = build(spec).eval()
    inputs = Inputs(torch.randn(1, 15, 16, 16), torch.zeros(1, 2), torch.full((1, 1, 16, 16), torch.nan))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        emulator.transformed(inputs)
    return sum(value.numel() for value in emulator.parameters()), counter.get_total_flops() / 2e9


if __name__ == "__main__":
    print("| model | parameters | multiply-adds a day, 10^9 |\n|---|---|---|")
    for one in MODELS:
        parameters, work = measure(one)
        print(f"| {', '.join(f'{key}: {value}' for key, value in one.items())} | {parameters:,} | {work:.2f} |")
