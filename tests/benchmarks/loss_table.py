"""What each loss does to precipitation: the same small network on the demo's pairs, one loss after the other, scored on the test days.

python tests/benchmarks/loss_table.py DEMO_DIR FOLDER [LOSS ...]

DEMO_DIR holds the config and the prepared pairs of ``downscale demo``; runs and the pairs' link go to FOLDER.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.models.emulator import Emulator
from downscale.pairs.store import PairStore
from downscale.training.modes import train_run
from downscale.training.run import load_run
from downscale.training.samples import Samples, load_samples, split_portions

WET_MM = 1.0
COMMON = (
    "model={name: resunet, width: 8, backbone: ridge}",
    "train.epochs=4",
    "train.baselines=[]",
    "train.learning_rate=3e-3",
    "train.on=[RCM_A/perfect]",
)
LOSSES = {
    "mse": (),
    "mse, sqrt": ("normalise.targets={pr: sqrt}",),
    "mae": ("loss.targets={pr: mae}",),
    "huber": ("loss.targets={pr: huber}",),
    "asymmetric_gamma": ("loss.targets={pr: asymmetric_gamma}",),
    "asymmetric_gamma, 4": ("loss.targets={pr: asymmetric_gamma}", "loss.asymmetry=4.0"),
    "gaussian, sqrt": ("loss.targets={pr: gaussian}", "normalise.targets={pr: sqrt}"),
    "bernoulli_gamma": ("loss.targets={pr: bernoulli_gamma}",),
    "afcrps": ("loss.name=afcrps",),
}


def scores(field: np.ndarray, truth: np.ndarray) -> str:
    """Area mean over cells, mm/day: RMSE, bias, std ratio, bias of P99, wet-day frequency over the truth's."""
    spread, wet = (np.nanmean(one(field)) / np.nanmean(one(truth)) for one in (lambda x: x.std(0), lambda x: (x >= WET_MM).mean(0)))
    extreme = np.nanmean(np.percentile(field, 99, axis=0) - np.percentile(truth, 99, axis=0))
    rmse = np.nanmean(np.sqrt(((field - truth) ** 2).mean(0)))
    return f"{rmse:6.3f} {np.nanmean(field - truth):+6.3f} {spread:6.2f} {extreme:+7.2f} {wet:6.2f}"


def crps(members: np.ndarray, truth: np.ndarray) -> float:
    """Fair CRPS of members (members, day, Y, X), mm/day."""
    count = len(members)
    apart = sum(np.abs(members[a] - members[b]) for a in range(count) for b in range(a))
    return float(np.nanmean(np.abs(members - truth).mean(0) - apart / (count * (count - 1))))


def fields_of(emulator: Emulator, samples: Samples, target: int, members: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (day, Y, X) and draws (members, day, Y, X) of one target."""
    generator, means, draws = torch.Generator().manual_seed(0), [], []
    with torch.inference_mode():
        for start in range(0, len(samples), 128):
            inputs = samples.inputs[start : start + 128]
            means.append(emulator(inputs)[:, target].numpy())
            draws.append(emulator.sample(inputs, members, generator)[:, :, target].numpy())
    return np.concatenate(means), np.concatenate(draws, 1)


def line(cfg: ExperimentConfig, name: str, samples: Samples, target: int) -> str:
    """Train with the loss and score it."""
    started = time.process_time()
    run = load_run(Path(str(train_run(cfg, device="cpu", name=name.replace(", ", "-"))["artefact"])), device="cpu")
    seconds = time.process_time() - started
    mean, draws = fields_of(run.emulator, samples, target, 8)
    truth = samples.target[:, target].numpy()
    ensemble = (
        f"| {scores(draws[0], truth)}  {crps(draws, truth):6.3f}"
        if np.abs(draws[0] - draws[1]).max() > 0
        else f"|{'':39}{np.nanmean(np.abs(mean - truth)):6.3f}"
    )
    return f"{name:20} {scores(mean, truth)}  {ensemble}  {seconds:5.0f} s"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    demo, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "pairs.zarr").exists():
        (folder / "pairs.zarr").symlink_to(demo / "results" / "pairs.zarr")
    print(f"{'loss of pr':20} mean: RMSE, bias, std ratio, P99 bias, wet days | one draw: the same; CRPS (without draws: MAE); CPU time")
    for name in sys.argv[3:] or LOSSES:
        cfg = load_config(demo / "config.yaml", [*COMMON, f"workspace={folder}", *LOSSES[name]])
        store = PairStore.open(folder / "pairs.zarr", cfg.split)
        samples = load_samples(split_portions(store, ["RCM_A/perfect"], "test"))
        print(line(cfg, name, samples, store.targets.index("pr")), flush=True)


if __name__ == "__main__":
    main()
