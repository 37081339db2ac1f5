"""How far the days of a workspace are from the training days of a run, and what the warmer ones look like to one that saw none.

    downscale demo DIR
    python tests/benchmarks/distance.py DIR/config.yaml --run A-perfect --until 2020

Fits the distances anew on the run's training days, and on those before a year only; scores the test days of every source, RCMu and GCM, of
both periods. One line a fit and source: mean of ood_score before and after that year, and the share of flagged days.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from downscale.apply.feed import GroupFeed
from downscale.apply.trust import Novelty, line, summary
from downscale.config.load import load_config
from downscale.pairs.build import STORE_NAME
from downscale.pairs.store import PairStore
from downscale.training.novelty import fit_novelty
from downscale.training.reading import Holes, Portion
from downscale.training.run import find_run, load_run
from downscale.training.samples import split_portions


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--run", required=True, help="name in the workspace, trained on split.train")
    parser.add_argument("--until", type=int, required=True, help="the second fit sees days before this year only")
    options = parser.parse_args()
    cfg = load_config(options.config)
    store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
    run = load_run(find_run(cfg.workspace_path(), options.run), device="cpu")
    days = [split_portions(store, run.card["recipe"]["on"], split) for split in ("train", "validation")]
    for name, limit in (("all", 9999), (f"before {options.until}", options.until)):
        started = time.perf_counter()
        model = fit_novelty(run.emulator, *(_before(portions, limit) for portions in days))
        assert model is not None, "too few days"
        print(f"fit on {name}: {time.perf_counter() - started:.1f} s, {model.predictors.freedom} entries")
        for group in store.groups.values():
            for kind in group.kinds:
                novelty, feed = Novelty(run, model), GroupFeed(group, kind, group.split("test"))
                windows, scalars, _ = feed.block(0, len(feed.days), Holes.of(run.spec))
                started = time.perf_counter()
                score = novelty.score(windows.maps, scalars, feed.days)["ood_score"]
                seconds, early = time.perf_counter() - started, feed.days // 10000 < options.until
                print(
                    f"{name} | {group.name}/{kind} | D {score[early].mean():.1f}, {score[~early].mean():.1f} | "
                    f"{line(summary(novelty.counts()))} | {1000 * seconds / len(feed.days):.2f} ms a day"
                )


def _before(portions: Sequence[Portion], year: int) -> list[Portion]:
    return [Portion(one.group, one.kind, one.index[one.days // 10000 < year]) for one in portions]


if __name__ == "__main__":
    main()
