"""The demo: the stages one after the other on the virtual climate, and a short table at the end."""

from __future__ import annotations

import importlib.resources
import json
import logging
import re
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from downscale.errors import ConfigError

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
QUICK = ("model.width=8", "train.epochs=2", "finetune.epochs=1", "few_shot.epochs=1")
PRETRAINED, ON_B, FINE_TUNED, FEW_SHOT = "A-perfect", "B-all-years", "A-finetuned-B", "A-few-shot-B"


def parse_years(texts: Sequence[str] | None) -> list[tuple[int, int]]:
    """``FIRST-LAST`` strings as pairs, 1995-2000 and 2090-2095 when none is given; ConfigError for anything else."""
    spans = []
    for text in texts or ("1995-2000", "2090-2095"):
        match = re.fullmatch(r"(\d{4})(?:-(\d{4}))?", text)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"--years '{text}' is not FIRST-LAST", hint="e.g. --years 1995-2000 --years 2090-2095")
        spans.append((int(match[1]), int(match[2] or match[1])))
    return spans


def run_demo(directory: Path, *, quick: bool, progress: ProgressCallback) -> dict[str, Any]:
    """Sample data, prepare, four trainings, apply, evaluate, report, all below ``directory``.

    Running it again goes on where it stopped.

    Returns:
        the report as ``artefact``, seconds of each step and the lines of the table.
    """
    from downscale.apply.stage import apply_files, apply_run
    from downscale.config.load import load_config
    from downscale.evaluate.stage import evaluate_run
    from downscale.pairs.build import build_pairs
    from downscale.report.html import make_report

    seconds: dict[str, float] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        log.info("== %s", name)
        started = time.monotonic()
        result = work()
        seconds[name] = round(time.monotonic() - started, 1)
        return result

    config = directory / "config.yaml"
    overrides = QUICK if quick else ()
    step("sample-data", lambda: _sample_data(directory, quick=quick, progress=progress))
    if not config.exists():
        config.write_text(_config_text(directory / "data"))
    cfg = load_config(config, overrides)
    step("prepare", lambda: build_pairs(cfg, progress=progress))
    for name, train in _trainings(config, overrides, progress):
        step(f"train {name}", train)
    step("apply", lambda: apply_run(cfg, progress=progress))
    future = sorted((directory / "data" / "gcm" / "VGCM-B").glob("*_ssp585_*.nc"))
    run = cfg.workspace_path() / "runs" / FEW_SHOT
    step("apply to GCM_B's future files", lambda: apply_files(run, future, directory / "results" / "future-of-B", progress=progress))
    step("evaluate", lambda: evaluate_run(cfg, progress=progress))
    report = step("report", lambda: make_report(cfg, progress=progress, config=str(config)))
    return {
        "artefact": report,
        "RMSE / mean |bias| on test years": _table(cfg.workspace_path() / "scores"),
        "seconds": ", ".join(f"{name} {value}" for name, value in seconds.items()),
    }


def _table(scores: Path) -> list[str]:
    """A line per run: tasmax (K) and pr (mm/day) at home (A's RCMu) and abroad (GCM_B's own fields)."""
    from downscale.evaluate.scorecard import read_scores

    card = read_scores(scores)
    columns = [(case, variable) for case in ("RCM_A/perfect", "RCM_B/imperfect") for variable in ("tasmax", "pr")]
    lines = [" ".join([f"{'':25}", *(f"{variable + ' ' + words:>22}" for words in ("A's RCMu", "GCM_B") for variable in ("tasmax", "pr"))])]
    for run in (PRETRAINED, FINE_TUNED, FEW_SHOT, ON_B, "ridge-RCM_A-perfect", "bilinear-RCM_A-perfect", "climatology-RCM_A-perfect"):
        values = [[card.value(run, case, variable, metric) for metric in ("rmse", "abs_bias")] for case, variable in columns]
        lines.append(" ".join([f"{run:25}", *(f"{rmse:13.2f} / {bias:6.2f}" for rmse, bias in values)]))
    return lines


def _sample_data(directory: Path, *, quick: bool, progress: ProgressCallback) -> None:
    from downscale.virtual.stage import write_sample_data

    data = directory / "data"
    if (data / "truth.json").exists():
        log.info("%s is there already", data)
        return
    write_sample_data(data, size="tiny" if quick else "small", progress=progress)


def _config_text(data: Path) -> str:
    """The experiment on the boxes that the sample data were made for."""
    geometry = json.loads((data / "truth.json").read_text())["geometry"]
    template = string.Template(importlib.resources.files("downscale.cli").joinpath("demo.yaml").read_text())
    return template.substitute(
        relaxation_cells=geometry["relaxation_cells"], coarse_box=geometry["coarse_box_edges"], fine_box=2 * geometry["target_cells"]
    )


def _trainings(config: Path, overrides: Sequence[str], progress: ProgressCallback) -> list[tuple[str, Callable[[], Any]]]:
    """Name and action of each training."""
    from downscale.config.load import load_config
    from downscale.training.modes import train_run

    cfg = load_config(config, overrides)
    on_b = load_config(config, [*overrides, "train.on=[RCM_B/imperfect]", "train.baselines=[]"])
    return [
        (PRETRAINED, lambda: train_run(cfg, name=PRETRAINED, progress=progress)),
        (ON_B, lambda: train_run(on_b, name=ON_B, progress=progress)),
        (FINE_TUNED, lambda: train_run(cfg, mode="finetune", source_run=PRETRAINED, name=FINE_TUNED, progress=progress)),
        (FEW_SHOT, lambda: train_run(cfg, mode="few-shot", source_run=PRETRAINED, name=FEW_SHOT, progress=progress)),
    ]
