"""Seconds of a training epoch on a GPU, against the bare step repeated on one batch that lies there; peak memory.

python tests/benchmarks/train_gpu.py [--device cuda] [--days 14600] [--batch 64] [--coarse 16] [--fine 128] [--width W] [MODEL ...]

It needs torch, numpy and downscale's models and loop: neither zarr nor xarray. The data are random numbers of the sizes of CORDEX
ML-Bench. Each epoch is timed from its first step to the end of its validation; the first one, in which algorithms are chosen, does not
count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from downscale.models import Inputs, build
from downscale.training.distributed import ALONE
from downscale.training.loop import _step, fit
from downscale.training.order import Order
from downscale.training.precision import choose, computed
from downscale.training.state import Settings, State


class Never:
    """A stop flag that does not rise."""

    set, name = False, ""


class Days:
    """Days on the device, as the loop takes them."""

    def __init__(self, inputs: Inputs, truth: torch.Tensor) -> None:
        self.inputs, self.truth, self.order = inputs, truth, Order(len(truth))

    def epoch(self, batches: Sequence[torch.Tensor], device: torch.device) -> Iterator[tuple[Inputs, torch.Tensor]]:
        """Inputs and truth for each batch of positions."""
        for index in torch.cat(list(batches)).to(device).split([len(index) for index in batches]):
            yield self.inputs[index], self.truth[index]

    def blocks(self, size: int, device: torch.device) -> Iterator[tuple[Inputs, torch.Tensor]]:
        """All days, in blocks."""
        for start in range(0, len(self.truth), size):
            yield self.inputs[start : start + size], self.truth[start : start + size]


def spec(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """A network of the sizes asked for."""
    return {
        "model": {"name": model, "backbone": "none", "dropout": 0.0, **({"width": options.width} if options.width else {})},
        "channels": [f"c{number}" for number in range(options.channels)], "targets": ["tas"], "scalars": ["season_cos", "season_sin"],
        "coarse_shape": [options.coarse] * 2, "fine_shape": [options.fine] * 2, "normalise": "gridpoint", "transforms": {},
        "non_negative": [], "fixed": ["orog", "y", "x"] if model == "resunet" else [],
    }  # fmt: skip


def days(n: int, options: argparse.Namespace) -> Days:
    """Random days on the device."""
    shape, device = (n, options.channels, options.coarse, options.coarse), torch.device(options.device)
    surface = torch.full((1, 1, 1, 1), torch.nan, device=device).expand(n, 1, options.coarse, options.coarse)
    inputs = Inputs(torch.randn(shape, device=device), torch.randn(n, 2, device=device), surface)
    return Days(inputs, torch.randn(n, 1, options.fine, options.fine, device=device))


def wait(device: torch.device) -> float:
    """Now, when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """One line of the table."""
    device = torch.device(options.device)
    torch.manual_seed(0)
    settings = Settings(epochs=3, batch_size=options.batch, loss="mse", balance="none", patience=99, precision=options.precision)
    state = State(build(spec(model, options)).to(device), settings)
    train, validation = days(options.days, options), days(max(2, options.days // 20), options)
    ends: list[float] = []
    with computed(state.emulator, choose(settings.precision, device)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        fit(
            state, train, validation, stop=Never(), save=lambda state, now: None,
            epoch_end=lambda epoch, row: ends.append(wait(device)),
        )  # fmt: skip
        (batch,) = train.epoch([torch.arange(options.batch)], device)
        state.emulator.train()
        steps = max(1, options.days // options.batch)
        _step(state, batch, options.batch, None, ALONE)
        started = wait(device)
        for _ in range(steps):
            _step(state, batch, options.batch, None, ALONE)
        bare = wait(device) - started
    epoch = min(later - earlier for earlier, later in pairwise(ends[1:]))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    return {
        "model": model, "parameters": sum(value.numel() for value in state.parameters.values()), "epoch_s": round(epoch, 3),
        "bare_epoch_s": round(bare, 3), "rate_of_bare": round(bare / epoch, 3), "samples_a_s": round(options.days / epoch),
        "peak_GiB": round(peak, 2),
    }  # fmt: skip


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["unet_doury", "resunet", "deepesd"])
    for name, value in (("days", 14_600), ("batch", 64), ("coarse", 16), ("fine", 128), ("channels", 15), ("width", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16"])
    return parser.parse_args(words)


if __name__ == "__main__":
    wanted = parse()
    print(torch.__version__, torch.cuda.get_device_name() if wanted.device == "cuda" else wanted.device)
    for one in wanted.models:
        print(measure(one, wanted))
