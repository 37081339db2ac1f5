"""Share of a training step that goes into getting its days: from memory, and from the shards of a pair store on disk.

python tests/benchmarks/loader.py [DAYS [MODEL WIDTH]]

Days as in the ML-Bench: 15 predictors of 16 x 16 cells, one target of 128 x 128, 64 days a step; random numbers (which compress badly) in
a store as downscale prepare writes it, in the page cache. Forward, backward and AdamW in float32. For each way: seconds that the loop waits
for its batches, and seconds of the whole epoch; the floor is the same step on one batch that lies in memory.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from downscale.models import Inputs, build
from downscale.pairs.store import PairGroup, create_array, create_group, shard_days
from downscale.training.feed import MemoryDays, TrainingDays
from downscale.training.reading import Holes, Portion
from downscale.training.samples import load_samples
from downscale.training.stream import StreamedDays, order_of

CHANNELS, COARSE, FINE, BATCH = 15, (16, 16), (128, 128), 64
CPU = torch.device("cpu")


def write(path: Path, days: int) -> PairGroup:
    """A group of random pairs."""
    rng = np.random.default_rng(0)
    stamps = np.array([(1850 + d // 360) * 10000 + (1 + d % 360 // 30) * 100 + 1 + d % 30 for d in range(days)])
    node = create_group(zarr.open_group(path, mode="w", zarr_format=3), "R", stamps, "360_day")
    shapes = {"predictors_rcmu": (CHANNELS, *COARSE), "target_tas": FINE, "scalars": (2,)}
    layout = shard_days(4 * max(int(np.prod(shape)) for shape in shapes.values()))
    for name, shape in shapes.items():
        array = create_array(node, name, (days, *shape), days=layout, attributes={})
        for start in range(0, days, layout[1]):
            stop = min(start + layout[1], days)
            array[start:stop] = rng.standard_normal((stop - start, *shape), np.float32)
    return PairGroup("R", "360_day", stamps, np.ones(days, bool), ("perfect",), ("tas",), {"notes": []}, node)


def emulator(name: str, width: int) -> torch.nn.Module:
    """The network, with neutral statistics."""
    torch.manual_seed(0)
    names = [f"zg{level}" for level in range(CHANNELS)]
    return build(
        {
            "model": {"name": name, "width": width, "backbone": "none"}, "channels": names, "targets": ["tas"],
            "scalars": ["season_cos", "season_sin"], "coarse_shape": list(COARSE), "fine_shape": list(FINE), "normalise": "gridpoint",
            "transforms": {}, "non_negative": [], "fixed": [],
        }
    ).train()  # fmt: skip


def epoch(model: torch.nn.Module, batches: Iterable[tuple[Inputs, Tensor]]) -> tuple[list[float], float]:
    """Seconds of waiting for each batch, seconds in all."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    source, waits, start = iter(batches), list[float](), time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            return waits, time.perf_counter() - start
        waits.append(time.perf_counter() - asked)
        inputs, truth = batch
        loss = (model.transformed(inputs) - truth).square().mean()  # type: ignore[operator]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def main(days: int, name: str, width: int) -> None:
    model = emulator(name, width)
    with tempfile.TemporaryDirectory() as folder:
        group = write(Path(folder) / "pairs.zarr", days)
        portions = [Portion(group, "perfect", np.arange(days))]
        ways: dict[str, TrainingDays] = {
            "memory": MemoryDays(load_samples(portions)),
            "memory, 256 days mixed": MemoryDays(load_samples(portions), order_of(portions, buffer=256)),
            "disk, 2 processes": StreamedDays(portions, Holes(), store=Path(folder) / "pairs.zarr", buffer=256, workers=2),
            "disk, 1 process": StreamedDays(portions, Holes(), store=Path(folder) / "pairs.zarr", buffer=256, workers=1),
            "disk, read when needed": StreamedDays(portions, Holes(), store=Path(folder) / "pairs.zarr", buffer=256, workers=0),
        }
        one = next(ways["memory"].blocks(BATCH, CPU))
        epoch(model, [one, one])
        steps = days // BATCH
        _, floor = epoch(model, [one] * steps)
        print(f"{name} width {width}, {torch.get_num_threads()} thread(s), {days} days: {floor / steps:.3f} s a step on one batch")
        for way, source in ways.items():
            for number in range(2):
                waits, seconds = epoch(model, source.epoch(source.order.batches(seed=0, epoch=number, size=BATCH), CPU))
                rest = sum(waits[1:])
                share = f"first {1e3 * waits[0]:6.1f} ms, others {1e3 * rest / (steps - 1):6.2f} ms each, {rest / seconds:6.2%} of it"
                print(f"  {way:24} epoch {number}: {seconds / steps:.3f} s a step, {share}, {seconds / floor:.3f} x")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 1024, given[1] if len(given) > 1 else "resunet", int(given[2]) if len(given) > 2 else 16)
