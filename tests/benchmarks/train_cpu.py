"""CPU time of a training epoch of our loop against a plain one over the same network and data.

python tests/benchmarks/train_cpu.py [MODEL ...]

Plain: a Dataset that gives one day at a time, a DataLoader that stacks them, AdamW as it comes, the memory format as it comes, the loss
read at every step. Ours: training.loop. Both in float32, without validation, one thread; CPU seconds of the process, because other work
may run beside it; the two take turns, medians of three epochs each.
"""

from __future__ import annotations

import statistics
import sys
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

SIZES = ["--device", "cpu", "--coarse", "16", "--fine", "64", "--channels", "15", "--batch", "32"]
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


def measure(model: str) -> dict[str, Any]:
    """Medians of both and their ratio."""
    number, width = NUMBERS[model]
    options = parse([*SIZES, "--days", number, "--width", width])
    train = days(options.days, options)
    settings, cpu = Settings(epochs=99, batch_size=options.batch, loss="mse", balance="none"), torch.device("cpu")
    torch.manual_seed(0)
    state = State(build(spec(model, options)), settings)
    plain = build(spec(model, options))
    optimiser = torch.optim.AdamW(plain.parameters(), lr=1e-3)
    loader = DataLoader(PerSample(train), batch_size=options.batch, shuffle=True)
    ours, theirs = [], []
    for _ in range(4):
        started = time.process_time()
        with computed(state.emulator, choose("auto", cpu)):
            for _ in _epoch(state, train, Never(), None, ALONE):  # type: ignore[arg-type]
                pass
        ours.append(time.process_time() - started)
        state.epoch, state.step = state.epoch + 1, 0
        started = time.process_time()
        plain.train()
        for *inputs, truth in loader:
            loss = (plain.transformed(Inputs(*inputs)) - plain.target(truth)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        theirs.append(time.process_time() - started)
    one, other = statistics.median(ours[1:]), statistics.median(theirs[1:])
    size = sum(value.numel() for value in plain.parameters())
    return {"model": model, "parameters": size, "ours_s": round(one, 3), "plain_s": round(other, 3), "ratio": round(other / one, 2)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in sys.argv[1:] or NUMBERS:
        print(measure(one))
