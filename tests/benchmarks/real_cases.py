"""The cases of docs/results.md on real data: prepare, train every seed, apply and the table, in one command a case.

DOWNSCALE_DATA=.../data python tests/benchmarks/real_cases.py r2-tg [--seeds 0 1 2] [--validation] [--set KEY=VALUE ...]

Run again it finishes what is missing and prints the table. With --validation the test winters are left alone: winters of the training
years are judged in their place, which is how the recipes were chosen. A network that gives a distribution has a line for its draws, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.evaluate.predictions import Prediction, PredictionReader, find_predictions
from downscale.pairs.build import STORE_NAME, build_pairs
from downscale.pairs.store import PairGroup, PairStore
from downscale.training.modes import train_run
from downscale.training.reading import Holes, Portion
from downscale.training.run import load_run
from downscale.training.samples import load_samples

CONFIGS = Path(__file__).parents[2] / "configs"
CASES = {"r1-tas": "racmo_tas", "r1-pr": "racmo_pr", "r2-tg": "eobs_tg", "r2-rr": "eobs_rr"}
"""Case -> shipped config."""
CHOOSING = ("split.train=[1984,1986-1987,1989,1991-1992,1994-1997]", "split.validation=[1985,1990]", "split.test=[1983,1988,1993]",
            "split.refit=false")  # fmt: skip
"""Train, stop and judge within the first 15 winters."""


def main() -> None:
    """Do the case, print its table."""
    options = _options()
    overrides = [*(CHOOSING if options.validation else ()), *options.set]
    if options.workspace:
        overrides.append(f"workspace={options.workspace}")
    cfg = load_config(CONFIGS / f"{CASES[options.case]}.yaml", overrides)
    build_pairs(cfg)
    seeds = [f"seed-{seed}" for seed in options.seeds]
    for seed, name in zip(options.seeds, seeds, strict=True):
        summary = train_run(cfg, seed=seed, name=name, device=options.device)
        print(f"{name}: {summary.get('unchanged') or 'trained'}", flush=True)
    apply_run(cfg, device=options.device)
    for line in table(cfg, seeds):
        print(line)


def table(cfg: ExperimentConfig, seeds: Sequence[str]) -> Iterator[str]:
    """A line for each baseline, for the seeds (mean, lowest and highest) and for the mean of their fields, for each target."""
    group = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split).group(cfg.train.on[0].partition("/")[0])
    index = group.split("test")
    predictions = {prediction.run: prediction for prediction in find_predictions(cfg.workspace_path() / "predictions")}
    yield f"{'':38} {'RMSE':>7} {'lowest':>7} {'highest':>7} {'std ratio':>10} {'P98 bias':>9}   {len(index)} days"
    for position, target in enumerate(group.targets):
        truth = group.target(index)[:, position].astype(np.float64)
        fields = {run: _read(prediction, target, group, index) for run, prediction in predictions.items()}
        members = [fields.pop(name) for name in seeds]
        rows = [(run, [field]) for run, field in fields.items() if predictions[run].role == "baseline"]
        rows += [(f"mean of {len(members)} seeds", members), ("mean of their fields", [np.mean(members, axis=0)])]
        rows += [("a draw of each seed", drawn)] if (drawn := list(_draws(cfg, group, seeds, position))) else []
        for label, several in rows:
            yield f"{target:7} {label:30} {_line([scores(field, truth) for field in several])}"


def _draws(cfg: ExperimentConfig, group: PairGroup, seeds: Sequence[str], position: int) -> Iterator[np.ndarray]:
    """One draw (day, y, x) of a target by each run that gives a distribution; nothing by the others."""
    kind = cfg.train.on[0].partition("/")[2]
    for name in seeds:
        emulator = load_run(cfg.workspace_path() / "runs" / name, device="cpu").emulator.eval()
        if emulator.heads.points and emulator.noise is None:
            return
        samples = load_samples([Portion(group, kind, group.split("test"))], Holes.of(emulator.spec))
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            parts = [emulator.sample(samples.inputs[i : i + 256], 1, generator)[0] for i in range(0, len(samples), 256)]
        yield torch.cat(parts)[:, position].numpy().astype(np.float64)


def scores(fields: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """RMSE over all days and cells with truth, ratio of standard deviations over the same, and mean bias of the cells' 98th percentiles.

    Args:
        fields, truth: (day, y, x) in working units; NaN where there is no truth.
    """
    known = np.isfinite(truth)
    rmse = float(np.sqrt(np.mean((fields[known] - truth[known]) ** 2)))
    valid = known.any(axis=0)
    fields, truth = np.where(known, fields, np.nan), np.where(known, truth, np.nan)
    p98 = np.nanquantile(fields[:, valid], 0.98, axis=0) - np.nanquantile(truth[:, valid], 0.98, axis=0)
    return rmse, float(np.nanstd(fields) / np.nanstd(truth)), float(p98.mean())


def _line(several: Sequence[tuple[float, float, float]]) -> str:
    rmse, ratio, p98 = np.mean(several, axis=0)
    low, high = (f"{pick(one[0] for one in several):7.4f}" if len(several) > 1 else f"{'':7}" for pick in (min, max))
    return f"{rmse:7.4f} {low} {high} {ratio:10.3f} {p98:+9.2f}"


def _read(prediction: Prediction, target: str, group: PairGroup, index: np.ndarray) -> np.ndarray:
    with PredictionReader(prediction, target, group.days[index], group.calendar) as reader:
        return reader.read().astype(np.float64)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validation", action="store_true", help="judge winters of the training years, not the test winters")
    parser.add_argument("--workspace", help="in place of the config's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for downscale; repeatable")
    options = parser.parse_args()
    if options.validation and not options.workspace:
        options.workspace = str(Path("results") / f"choosing_{CASES[options.case]}")
    return options


if __name__ == "__main__":
    main()
