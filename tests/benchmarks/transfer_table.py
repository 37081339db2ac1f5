"""The transfer table of docs/results.md: what an emulator is worth on a GCM that it was not trained on, and what helps.

python tests/benchmarks/transfer_table.py DIR [--quick] [--width N] [--epochs N] [--seeds N ...] [--no-augmentation]

Four virtual GCMs, an RCM run driven by each. A and B teach, C and D are the GCMs not trained on. Rows:
    perfect            trained on RCMu of A and B, judged on RCMu of C (D): no inconsistency between GCM and RCM, only another climate
    imperfect          trained on GCM -> RCM pairs of A and B, judged on GCM C (D)
    pretrained         the run of the first row, judged on GCM C (D) as it is
    + fine-tuned       ... after fine-tuning on all training years of C (D)
    + few-shot         ... after fine-tuning on two of them
    trained on it      from fresh weights on all training years of C (D)
Each with and without augmentation (train.augment); the mean over the seeds. Run again, it finishes what is missing and prints the
table from the scores.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.evaluate.scorecard import Scorecard, read_scores
from downscale.evaluate.stage import evaluate_run
from downscale.pairs.build import build_pairs
from downscale.training.modes import train_run
from downscale.virtual.stage import write_sample_data

LEARNED, UNSEEN = "AB", "CD"
AUGMENT = "train.augment={smoothing: 0.3, bias: 0.05, noise: 0.05}"
METRICS = (("abs_bias", r"\|bias\|"), ("w1", "W1"), ("abs_p99_bias", r"\|P99 bias\|"), ("change_mean_captured", "change captured"),
           ("std_ratio", "std ratio"), ("rmse", "RMSE"))  # fmt: skip
ROWS = (("perfect", "perfect{tag}", "perfect"), ("imperfect", "imperfect{tag}", "imperfect"), ("pretrained", "perfect{tag}", "imperfect"),
        ("+ fine-tuned", "fine-tuned-{gcm}{tag}", "imperfect"), ("+ few-shot", "few-shot-{gcm}{tag}", "imperfect"),
        ("trained on it", "only-{gcm}{tag}", "imperfect"))  # fmt: skip
"""Words, name of the run, kind of the case."""


def main() -> None:
    """Everything that is missing, then the table."""
    options = _options()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    root, config = options.dir, options.dir / "config.yaml"
    if not (root / "data" / "truth.json").exists():
        write_sample_data(root / "data", gcms=4, size="tiny" if options.quick else "small", workers=options.workers)
    config.write_text(_config(json.loads((root / "data" / "truth.json").read_text())["geometry"]))
    small = (f"model.width={options.width}", f"train.epochs={options.epochs}")
    cfg = load_config(config, ["model.width=8", "train.epochs=2", "finetune.epochs=1", "few_shot.epochs=1"] if options.quick else small)
    build_pairs(cfg, workers=options.workers)
    tags = {"": ()} if options.no_augmentation else {"": (), "-augment": (AUGMENT,)}
    seeds = {seed: f"-seed{seed}" if seed else "" for seed in options.seeds}
    for seed, suffix in seeds.items():
        for tag, extra in tags.items():
            _train(partial(load_config, config), [*_words(cfg), *extra, f"train.seed={seed}"], tag + suffix)
    apply_run(cfg, sources=[f"{kind}_{name}" for name in UNSEEN for kind in ("RCM", "GCM")])
    evaluate_run(cfg, overwrite=True)
    for line in table(read_scores(cfg.workspace_path() / "scores"), list(tags), list(seeds.values())):
        print(line)


def table(card: Scorecard, tags: Sequence[str], seeds: Sequence[str] = ("",)) -> Iterator[str]:
    """Markdown, a table for each target and GCM not trained on; means over the seeds, whose names end in these suffixes."""
    for target in ("tasmax", "pr"):
        for gcm in UNSEEN:
            yield f"\n{target}, GCM {gcm}\n"
            yield f"| | {' | '.join(words for _, words in METRICS)} |"
            yield f"|---|{'---|' * len(METRICS)}"
            for tag in tags:
                for words, run, kind in ROWS:
                    names = [run.format(tag=tag + seed, gcm=gcm) for seed in seeds]
                    case = f"RCM_{gcm}/{kind}"
                    values = [np.mean([_value(card, name, case, target, metric) for name in names]) for metric, _ in METRICS]
                    yield f"| {words}{', augmented' if tag else ''} | {' | '.join(f'{value:.3f}' for value in values)} |"


def _value(card: Scorecard, run: str, case: str, target: str, metric: str) -> float:
    return card.value(run, case, target, metric, period="change" if metric.startswith("change") else "all")


def _train(load: Callable[[list[str]], ExperimentConfig], words: list[str], tag: str) -> None:
    """The runs of one tag: two from A and B, then for each other GCM two that go on from the first, and one of its own."""

    def step(name: str, mode: str, overrides: Sequence[str]) -> None:
        started = time.monotonic()
        source = None if mode == "pretrain" else f"perfect{tag}"
        summary = train_run(load([*words, "train.baselines=[]", *overrides]), mode=mode, source_run=source, name=name)
        print(f"{name}: {summary.get('unchanged') or f'{time.monotonic() - started:.0f} s'}", flush=True)

    for kind in ("perfect", "imperfect"):
        step(f"{kind}{tag}", "pretrain", [f"train.on=[{', '.join(f'RCM_{name}/{kind}' for name in LEARNED)}]"])
    for gcm in UNSEEN:
        case = f"RCM_{gcm}/imperfect"
        step(f"fine-tuned-{gcm}{tag}", "finetune", [f"finetune.on=[{case}]"])
        step(f"few-shot-{gcm}{tag}", "few-shot", [f"few_shot.on=[{case}]"])
        step(f"only-{gcm}{tag}", "pretrain", [f"train.on=[{case}]"])


def _words(cfg: ExperimentConfig) -> list[str]:
    """The numbers that options changed, as overrides."""
    return [f"model.width={cfg.model.width}", f"train.epochs={cfg.train.epochs}",
            f"finetune.epochs={cfg.finetune.epochs if cfg.finetune else 4}",
            f"few_shot.epochs={cfg.few_shot.epochs if cfg.few_shot else 10}"]  # fmt: skip


def _config(geometry: dict[str, object]) -> str:
    """The demo's experiment with four GCMs."""
    names = LEARNED + UNSEEN
    return "\n".join(
        [
            "workspace: results",
            "sources:",
            *(f'  RCM_{name}: {{role: rcm, files: ["data/rcm/VGCM-{name}/*.nc"]}}' for name in names),
            *(f'  GCM_{name}: {{role: gcm, files: ["data/gcm/VGCM-{name}/*.nc"], drives: RCM_{name}}}' for name in names),
            "predictors:",
            *(f"  - {{name: {name}, levels: [850, 700, 500]}}" for name in ("zg", "ta", "hus", "ua", "va")),
            "targets: [{name: tasmax}, {name: pr}]",
            "static: [orog, sftlf]",
            f"domain: {{relaxation_cells: {geometry['relaxation_cells']}, coarse_box: {geometry['coarse_box_edges']}, "
            f"fine_box: {2 * list(geometry['target_cells'])}}}",  # type: ignore[call-overload]
            "upscale: {to: GCM_A}",
            "missing: {gaps: skip}",
            'split: {train: ["1995-1998", "2090-2093"], validation: [1999, 2094], test: [2000, 2095]}',
            "model: {name: resunet, width: 16, backbone: ridge}",
            "train: {on: [RCM_A/perfect], epochs: 8, learning_rate: 2.0e-3}",
            "finetune: {on: [RCM_C/imperfect], epochs: 4, learning_rate: 5.0e-4}",
            "few_shot: {on: [RCM_C/imperfect], epochs: 10, learning_rate: 5.0e-4, shots: 2}",
            "apply: {days: test}\n",
        ]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--quick", action="store_true", help="the tiny world and a small network: no skill to speak of")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-augmentation", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
