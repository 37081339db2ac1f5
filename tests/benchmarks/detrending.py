"""What normalise.detrend and a ridge backbone keep of a forced change when only the past was learned from.

    python tests/benchmarks/detrending.py

A tiny world in memory (the one of the training tests): 4 x 5 coarse cells, 28 days a year, learned from 1950 to 2009 and emulated in
2070 to 2099. A forcing rises by 0.02 a year until 2009 and by 0.05 after; the predictor tas follows it by 1 K, its fine target by 1.5 K
a unit. One line a recipe: the emulated change of the target between 1980-2009 and 2070-2099, and the share of the true one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from training_world import SCALARS, make_config, make_group, make_store

from downscale.config.inputs import ForcingsConfig
from downscale.config.scaling import NormaliseConfig
from downscale.models.inputs import Inputs
from downscale.training import modes
from downscale.training.run import load_run

YEARS = (*range(1950, 2010), *range(2070, 2100))
RECIPES = {
    "plain": ({}, {}, False),
    "plain, the forcing among the numbers": ({}, {}, True),
    "ridge backbone": ({"backbone": "ridge"}, {}, False),
    "detrend": ({}, {"detrend": "GHG"}, True),
    "detrend and ridge backbone": ({"backbone": "ridge"}, {"detrend": "GHG"}, True),
}


def world(*, forcing: bool):
    """The store; ``forcing`` puts GHG among the numbers of the day."""
    store, group = make_store(), make_group("RCM_A", YEARS)
    year = group.days // 10000
    rise = np.where(year < 2010, 0.02 * (year - 1950), 1.2 + 0.05 * (year - 2010)).astype(np.float32)
    group.arrays["perfect"][:, 0] += rise[:, None, None]
    group.arrays["target"][:, 0] += 1.5 * rise[:, None, None]
    if forcing:
        group.arrays["scalars"] = np.column_stack([group.arrays["scalars"], rise])
        store.scalars = [*SCALARS, "GHG"]
    group.splits = {
        "train": np.flatnonzero((year < 2010) & (year % 5 != 0)),
        "validation": np.flatnonzero((year < 2010) & (year % 5 == 0)),
        "test": np.flatnonzero(year >= 2070),
    }
    store.groups = {"RCM_A": group}
    return store


def change(values: np.ndarray, days: np.ndarray) -> float:
    """Mean over land, 2070-2099 less 1980-2009."""
    year = days // 10000
    late, early = (values[(year >= first) & (year < first + 30)][..., 2:].mean() for first in (2070, 1980))
    return float(late - early)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("recipe | change, K | share of the true change")
    for name, (model, normalise, forcing) in RECIPES.items():
        store = world(forcing=forcing)
        group = store.groups["RCM_A"]
        modes.PairStore.open = classmethod(lambda cls, *arguments, made=store: made)
        train = {"on": ["RCM_A/perfect"], "epochs": 8, "batch_size": 32, "learning_rate": 3e-3, "baselines": []}
        options = {"name": "resunet", "width": 8, "backbone": "none", "dropout": 0.0, **model}
        update = {"normalise": NormaliseConfig(**normalise), "forcings": ForcingsConfig(file="f.csv", columns=["GHG"])}
        with tempfile.TemporaryDirectory() as folder:
            cfg = make_config(folder, model=options, train=train).model_copy(update=update)
            run = load_run(Path(str(modes.train_run(cfg, device="cpu")["artefact"])), device="cpu")
        arrays = (group.arrays["perfect"], group.arrays["scalars"], group.arrays["surface"], group.days.astype(np.int64))
        with torch.inference_mode():
            fields = run.emulator(Inputs(*(torch.from_numpy(one) for one in arrays)))[:, 0].numpy()
        true = change(group.arrays["target"][:, 0], group.days)
        print(f"{name} | {change(fields, group.days):.2f} | {change(fields, group.days) / true:.2f} (true {true:.2f} K)")


if __name__ == "__main__":
    main()
