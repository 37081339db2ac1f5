"""One cell of a few-shot grid: an emulator adapted to a few years by one method, or made from them alone, in memory."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from downscale.apply.align_runs import aligned
from downscale.apply.feed import GroupFeed
from downscale.apply.predict import predict_blocks
from downscale.config.schema import ExperimentConfig, FewShotConfig
from downscale.hpc.signals import StopFlag
from downscale.models.emulator import Emulator
from downscale.models.linear import Ridge
from downscale.models.registry import build
from downscale.pairs.statistics import training_statistics
from downscale.pairs.store import PairGroup, PairStore
from downscale.training.adaptation import refresh_batch_norm
from downscale.training.assemble import check_channels, model_spec, new_emulator
from downscale.training.baselines import Ground, fit_backbone
from downscale.training.days import with_feeding
from downscale.training.memory import train_in_memory
from downscale.training.plan import Plan, few_years, pairs_facts, plan_adaptation, settings_facts, settings_of
from downscale.training.run import Run
from downscale.training.samples import Holes, Portion, split_portions, stream_samples, whole_portions
from downscale.training.shots import whole_years

log = logging.getLogger(__name__)
REPLAY = 0.5
"""Share of replayed days of the method "replay" where few_shot.replay says nothing."""
_BLOCK_DAYS = 365


@dataclass(frozen=True)
class Cell:
    """One training of a grid."""

    method: str
    shots: int
    draw: int
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.method}-{self.shots}y-draw{self.draw}-seed{self.seed}"

    @property
    def facts(self) -> dict[str, Any]:
        """As in its JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Bench:
    """What all cells share.

    Attributes:
        cfg, store: the experiment and its pairs.
        section: cfg.few_shot, with one pair.
        source: the run to go on from, on the CPU.
        device: where cells are trained.
        source_case: pairs that the source learned from, on which forgetting is measured, or None.
    """

    cfg: ExperimentConfig
    section: FewShotConfig
    store: PairStore
    source: Run
    device: torch.device
    source_case: str | None

    @property
    def case(self) -> str:
        """The pairs to adapt to."""
        return self.section.on[0]

    @property
    def target(self) -> PairGroup:
        """Their group."""
        return self.store.group(self.case.partition("/")[0])

    @property
    def source_group(self) -> list[str]:
        """Name of the source's group, if there is one."""
        return [] if self.source_case is None else [self.source_case.partition("/")[0]]

    @cached_property
    def window(self) -> tuple[int, int] | None:
        """Years on which gcm_align compares the climates: apply.align_window, else the first contiguous training years that the target
        pairs and the source's have in common; None: there are none, or the target's predictors are no GCM's."""
        if not self.case.endswith("/imperfect") or self.source_case is None:
            return None
        if self.cfg.apply.align_window is not None:
            return self.cfg.apply.align_window[0], self.cfg.apply.align_window[1]
        groups = (self.target, self.store.group(self.source_group[0]))
        mine, theirs = (whole_years(group.days[group.split("train")]) for group in groups)
        both = np.intersect1d(mine, theirs)
        first = np.split(both, np.flatnonzero(np.diff(both) > 1) + 1)[0]
        return (int(first[0]), int(first[-1])) if len(first) else None

    def aligned(self) -> Any:
        """The group of the pairs to adapt to as the source run reads it with gcm_align.

        Raises:
            InputDataError: the window has too few days, or the source's pairs are not in the store as they were.
        """
        how = self.cfg.apply.model_copy(update={"align": "gcm_align", "align_window": list(self.window or ())})
        days = self.target.days[self.target.split("test")]
        kind = self.case.partition("/")[2]
        return aligned(self.cfg.model_copy(update={"apply": how}), self.store, self.source, (self.target, kind), days).group

    @cached_property
    def portions(self) -> list[Portion]:
        """All training days of the pairs to adapt to."""
        return split_portions(self.store, [self.case], "train")


def plan_cell(bench: Bench, cell: Cell) -> Plan:
    """Days, settings and recipe of a cell; the recipe decides whether a cell that stands there is this one.

    Raises:
        ConfigError: there are fewer whole years than shots, or the network lacks the method.
        InputDataError: the source does not fit the pairs.
    """
    cfg, source = bench.cfg, bench.source
    if cell.method in ("scratch", "ridge"):
        return _plan_fresh(bench, cell)
    method, replay = ("full", bench.section.replay or REPLAY) if cell.method == "replay" else (cell.method, 0.0)
    if cell.shots == 0:
        method = "calibration"  # nothing of a training enters the recipe of a method without labels
    section = bench.section.model_copy(update={"method": method, "replay": replay})
    window = {"window": list(bench.window)} if cell.method == "gcm_align" and bench.window else {}
    plan = plan_adaptation(
        cfg.model_copy(update={"few_shot": section}), bench.store, source, mode="few-shot", shots=max(cell.shots, 1), seed=cell.seed,
        name="cell", draw=cell.draw,
    )  # fmt: skip
    if cell.shots:
        return with_feeding(cfg.train, bench.store, replace(plan, path=Path()))
    recipe = {key: plan.recipe[key] for key in ("mode", "source_run", *pairs_facts(bench.store, [bench.case]))}
    return replace(plan, recipe={**recipe, "method": cell.method, **window})


def _plan_fresh(bench: Bench, cell: Cell) -> Plan:
    cfg, model = bench.cfg, dict(bench.source.spec["model"])
    settings = settings_of(cfg, cell.seed)
    years, train, validation = few_years(bench.portions, cell.shots, cfg.split.year_starts, cell.draw)
    own = {"settings": settings_facts(settings), "model": model, **cfg.loss.recipe()} if cell.method == "scratch" else {}
    linear = cfg.ridge.model_dump() if cell.method == "ridge" or model.get("backbone") == "ridge" else None
    recipe = {
        "mode": cell.method, "normalise": cfg.normalise.model_dump(exclude_none=True), "ridge": linear, "years": years, **own,
        **pairs_facts(bench.store, [bench.case]),
    }  # fmt: skip
    plan = Plan(Path(), "few-shot", bench.source.spec, train, validation, settings, recipe)
    return with_feeding(cfg.train, bench.store, plan) if cell.method == "scratch" else plan


def learn(bench: Bench, cell: Cell, plan: Plan, folder: Path, stop: StopFlag) -> tuple[Emulator, dict[str, Any]]:
    """The emulator of a cell, and what it took.

    Args:
        bench, cell, plan: see plan_cell.
        folder: of its checkpoints; removed at the end.
        stop: looked at while training.

    Returns:
        the emulator on the bench's device, and {"years", "parameters" (that moved), "seconds"}.

    Raises:
        Stopped: the flag rose; the state is saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.settings.seed)
    started = time.monotonic()
    if cell.method in ("scratch", "ridge"):
        emulator, plan = _fresh(bench, cell, plan, folder)
    else:
        emulator = build(bench.source.spec)
        emulator.load_state_dict(bench.source.emulator.state_dict())
    emulator.to(bench.device)
    moved = 0
    if cell.method == "adabn":
        moved = _refresh(bench, emulator)
    elif cell.shots and cell.method == "ridge":
        moved = emulator.backbone.weight.numel() + emulator.backbone.intercept.numel() if isinstance(emulator.backbone, Ridge) else 0
    elif cell.shots:
        moved = train_in_memory(bench.cfg, bench.store, plan, emulator, folder, stop)
    shutil.rmtree(folder, ignore_errors=True)
    years = [year for some in plan.recipe.get("years", {}).values() for year in some]
    return emulator, {"years": years, "parameters": moved, "seconds": round(time.monotonic() - started, 3)}


def _refresh(bench: Bench, emulator: Emulator) -> int:
    """AdaBN on the predictors of all training days of the pairs; no truth is looked at. The number of statistics."""
    portions = whole_portions(bench.portions, Holes.of(emulator.spec), policy=bench.cfg.missing.nan_days)
    blocks = (inputs.to(bench.device) for inputs, _ in stream_samples(portions, Holes.of(emulator.spec)))
    refresh_batch_norm(emulator, (inputs for inputs in blocks if len(inputs) > 1))
    return sum(value.numel() for name, value in emulator.named_buffers() if name.endswith(("running_mean", "running_var")))


def _fresh(bench: Bench, cell: Cell, plan: Plan, folder: Path) -> tuple[Emulator, Plan]:
    """A new network or ridge with the statistics of the few years alone, and the plan with what it was built from."""
    cfg = bench.cfg.model_copy(update={"train": bench.cfg.train.model_copy(update={"on": [bench.case]})})
    store = _few(bench, plan, folder)
    group, _, kind = bench.case.partition("/")
    options = cfg.normalise
    statistics = training_statistics(
        store, [(group, kind)], dict(options.targets), predictors=options.predictors, detrend=options.detrend
    )  # fmt: skip
    check_channels(cfg, store, statistics, f"{statistics.n_days} days of {bench.case}")
    ground = Ground.of(cfg, store, statistics)
    model = {"name": "ridge"} if cell.method == "ridge" else plan.spec["model"]
    spec = model_spec(cfg, store, model, statistics)
    emulator = new_emulator(spec, store, statistics)
    if isinstance(emulator.backbone, Ridge):
        fit_backbone(ground, emulator, emulator.backbone)
    return emulator, replace(plan, spec=spec, train=list(ground.train), validation=list(ground.validation))


def _few(bench: Bench, plan: Plan, folder: Path) -> PairStore:
    """The store as if it had no other training and validation days; what is kept of its statistics goes with the cell."""
    group = bench.target
    splits = {"train": plan.train[0].index, "validation": plan.validation[0].index, "test": group.split("test")}
    digest = hashlib.sha256(f"{bench.store.split_digest}{plan.recipe['years']}".encode()).hexdigest()
    return replace(
        bench.store, groups={group.name: replace(group, splits=splits)}, split_digest=digest, path=folder / bench.store.path.name
    )


def emulate(bench: Bench, emulator: Emulator, case: str, *, align: bool = False) -> np.ndarray:
    """Fields (time, target, Y, X) of a case's test days, working units; NaN on days that the emulator cannot read."""
    name, _, kind = case.partition("/")
    group = bench.store.group(name)
    index = group.split("test")
    run = replace(bench.source, emulator=emulator.eval(), spec=emulator.spec, device=bench.device)
    feed = GroupFeed(bench.aligned() if align else group, kind, index)
    return np.concatenate([fields for _, fields in predict_blocks(run, feed, _BLOCK_DAYS)])
