"""Checks of docs/results.md in the virtual world: which network, what a warmer climate costs, and what two years are worth.

python tests/benchmarks/world_checks.py DIR [--width N] [--epochs N]

DIR as for transfer_table.py, whose data, pairs and runs are used again where they are there. Rows, all of one seed:
    networks        resunet on ridge, unet_doury and deepesd, trained on RCM A's perfect pairs and judged on its test years
    historical only resunet by itself and on ridge, trained on 1995-1998 alone: how much of the change to 2095 they tell
    few years       two years of GCM C by fine-tuning the network of A and B (a run of transfer_table.py), five years from fresh weights
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from transfer_table import _config  # type: ignore[import-not-found]

from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.evaluate.scorecard import Scorecard, read_scores
from downscale.evaluate.stage import evaluate_run
from downscale.pairs.build import build_pairs
from downscale.training.modes import train_run
from downscale.virtual.stage import write_sample_data

PLAIN = "model.backbone=none"
HISTORICAL = ("split.train=[1995-1998]", "split.validation=[1999]")
NETWORKS = {
    "resunet": (),
    "unet_doury": ("model={name: unet_doury, width: 16}", "normalise.predictors=map", "train.epochs=20", "train.learning_rate=1e-3"),
    "deepesd": ("model={name: deepesd}", "train.epochs=20", "train.learning_rate=1e-3"),
}
PAST = {"past-plain": (PLAIN,), "past-ridge": ()}
FEW = ("train.on=[RCM_C/imperfect]", "split.train=[1995-1997, 2090-2091]")
RUNS = {
    **{f"net-{name}": ("train.on=[RCM_A/perfect]", *words) for name, words in NETWORKS.items()},
    **{name: ("train.on=[RCM_A/perfect]", *HISTORICAL, *words) for name, words in PAST.items()},
    "five-years-C": FEW,
}
"""Name of a run -> what differs from the experiment of the transfer table."""


def main() -> None:
    """Everything that is missing, then the tables."""
    options = _options()
    logging.basicConfig(level=logging.WARNING)
    root, config = options.dir, options.dir / "config.yaml"
    if not (root / "data" / "truth.json").exists():
        write_sample_data(root / "data", gcms=4, size="small")
    config.write_text(_config(json.loads((root / "data" / "truth.json").read_text())["geometry"]))
    size = [f"model.width={options.width}", f"train.epochs={options.epochs}", "train.baselines=[]"]
    cfg = load_config(config, size)
    build_pairs(cfg)
    for name, words in RUNS.items():
        summary = train_run(load_config(config, [*size, *words]), name=name)
        print(f"{name}: {summary.get('unchanged') or summary['validation RMSE']}", flush=True)
    apply_run(cfg, sources=["RCM_A", "GCM_C"])
    evaluate_run(cfg, overwrite=True)
    for line in table(read_scores(cfg.workspace_path() / "scores")):
        print(line)


def table(card: Scorecard) -> Iterator[str]:
    """Markdown: RMSE of the networks and of the few years, and the share of the change that each captures from the past alone."""
    yield "| | tasmax, RMSE | pr, RMSE | tasmax, change captured | pr, change captured |\n|---|---|---|---|---|"
    for name in (*RUNS, "few-shot-C"):
        case = "RCM_C/imperfect" if name.endswith("-C") else "RCM_A/perfect"
        yield f"| {name} | {' | '.join(_values(card, name, case))} |"


def _values(card: Scorecard, name: str, case: str) -> Sequence[str]:
    wanted = [("rmse", "all"), ("change_mean_captured", "change")]
    return [f"{card.value(name, case, target, metric, period=period):.3f}" for metric, period in wanted for target in ("tasmax", "pr")]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
