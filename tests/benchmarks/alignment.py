"""What apply.align changes: bias, spread and change signal of a run on the GCM fields of a case it has not learned from.

    downscale demo DIR
    python tests/benchmarks/alignment.py DIR/config.yaml --runs resunet-RCM_A-perfect --case RCM_B --window 1995 1998

Emulates in memory the test days of the case's GCM fields as they are, and aligned by each method, and the RCMu of the same days; scores
against the case's truth, land and sea, all test days. One line a target and method.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from torch import nn

from downscale.apply.align_runs import aligned
from downscale.apply.feed import GroupFeed
from downscale.apply.predict import predict_blocks
from downscale.config.load import load_config
from downscale.config.schema import ApplyConfig
from downscale.pairs.build import STORE_NAME
from downscale.pairs.store import PairStore
from downscale.training.run import find_run, load_run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", nargs="+", required=True, help="names in the workspace")
    parser.add_argument("--case", required=True, help="name of the rcm source")
    parser.add_argument("--window", nargs=2, type=int, required=True, help="first and last year of the common window")
    options = parser.parse_args()
    cfg = load_config(options.config)
    store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
    group = store.group(options.case)
    index = group.split("test")
    truth, late = group.target(index), group.days[index] // 10000 > options.window[1] + 5
    print("run | fields | target | bias | std ratio | RMSE | change (truth)")
    for name in options.runs:
        run = load_run(find_run(cfg.workspace_path(), name), device="cpu")
        ways = [("RCMu", ""), ("none", ""), *product(("mean", "gcm_align", "quantile"), ("training", "own"))]
        if any(isinstance(module, nn.BatchNorm2d) for module in run.emulator.modules()):
            ways.append(("adabn", "training"))
        for method, to in ways:
            reader, kind, fed = (run, "perfect", group) if method == "RCMu" else (run, "imperfect", group)
            if to:
                chosen = cfg.model_copy(update={"apply": ApplyConfig(align=method, align_to=to, align_window=options.window)})
                done = aligned(chosen, store, run, (group, kind), group.days[index])
                reader, fed = done.run(), done.group
            found = np.concatenate([fields for _, fields in predict_blocks(reader, GroupFeed(fed, kind, index), 365)])
            for place, target in enumerate(store.targets):
                one, other = found[:, place].astype(float), truth[:, place].astype(float)
                change = [np.nanmean(some[late]) - np.nanmean(some[~late]) if late.any() else np.nan for some in (one, other)]
                ratio = np.nanmean(np.nanstd(one, axis=0)) / np.nanmean(np.nanstd(other, axis=0))
                rmse = np.sqrt(np.nanmean((one - other) ** 2))
                print(
                    f"{name} | {method} {to} | {target} | {np.nanmean(one - other):+.3f} | {ratio:.3f} | {rmse:.3f} | "
                    f"{change[0]:.3f} ({change[1]:.3f})"
                )


if __name__ == "__main__":
    main()
