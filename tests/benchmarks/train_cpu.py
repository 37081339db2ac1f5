"""Seconds of a training epoch of our loop against a plain one over the same network and data.

python tests/benchmarks/train_cpu.py [--threads 2] [--fine 128] [MODEL ...]

Plain: a Dataset that gives one day at a time, a DataLoader that stacks them, AdamW as it comes, the memory format as it comes, the loss
read at every step. Ours: training.loop. Both in float32, without validation; the two take turns, medians of five epochs each. A second
thread that waits for a busy core is slower than none: measure on idle cores, or with --threads 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from train_gpu import Days, Never, days, parse, spec

from downscale.models import Inputs, build
from downscale.training.distributed import ALONE
from downscale.training.loop import _epoch
from downscale.training.precision import choose, computed
from downscale.training.state import Settings, State

SIZES = ["--device", "cpu", "--coarse", "16", "--channels", "15", "--batch", "32"]
NUMBERS = {"unet_doury": ("128", "16"), "resunet": ("96", "16"), "deepesd": ("512", "0")}
"""Days and width of each."""


class PerSample(Dataset[Any]):
    """One day at a time."""

    def __init__(self, days: Days) -> None:
        self.days = days

    def __len__(self) -> int:
        return len(self.days.truth)

    def __getitem__(self, day: int) -> tuple[torch.Tensor, ...]:
        inputs = self.days.inputs
        return inputs.predictors[day], inputs.scalars[day], inputs.surface[day], self.days.truth[day]


def measure(model: str, fine: int) -> dict[str, Any]:
    """Medians of both and their ratio."""
    number, width = NUMBERS[model]
    options = parse([*SIZES, "--fine", str(fine), "--days", number, "--width", width])
    train = days(options.days, options)
    settings, cpu = Settings(epochs=99, batch_size=options.batch, loss="mse", balance="none"), torch.device("cpu")
    torch.manual_seed(0)
    state = State(build(spec(model, options)), settings)
    plain = build(spec(model, options))
    optimiser = torch.optim.AdamW(plain.parameters(), lr=1e-3)
    loader = DataLoader(PerSample(train), batch_size=options.batch, shuffle=True)
    ours, theirs = [], []
    for _ in range(6):
        started = time.perf_counter()
        with computed(state.emulator, choose("auto", cpu)):
            for _ in _epoch(state, train, Never(), None, ALONE):  # type: ignore[arg-type]
                pass
        ours.append(time.perf_counter() - started)
        state.epoch, state.step = state.epoch + 1, 0
        started = time.perf_counter()
        plain.train()
        for *inputs, truth in loader:
            loss = (plain.transformed(Inputs(*inputs)) - plain.target(truth)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        theirs.append(time.perf_counter() - started)
    one, other = statistics.median(ours[1:]), statistics.median(theirs[1:])
    size = sum(value.numel() for value in plain.parameters())
    return {"model": model, "parameters": size, "ours_s": round(one, 3), "plain_s": round(other, 3), "ratio": round(other / one, 2)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(NUMBERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fine", type=int, default=128)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    for one in wanted.models:
        print(measure(one, wanted.fine), flush=True)
