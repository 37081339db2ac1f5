"""The three ways to train: pretrain on pairs, fine-tune a run on others, or on a few whole years of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from downscale.config.load import dump_yaml
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, Stopped
from downscale.hpc.locks import folder_lock
from downscale.hpc.scratch import local_copy
from downscale.hpc.signals import StopFlag
from downscale.models.registry import build
from downscale.pairs.build import STORE_NAME
from downscale.pairs.normalise import Statistics
from downscale.pairs.statistics import training_statistics
from downscale.pairs.store import PairStore
from downscale.training.assemble import check_channels, model_spec, resolve_device
from downscale.training.baselines import Ground, train_baseline
from downscale.training.days import with_feeding
from downscale.training.distributed import Ranks, ranks_of
from downscale.training.folder import log_to, standing, write_start
from downscale.training.plan import Plan, plan_adaptation, plan_pretrain
from downscale.training.run import find_run, load_run
from downscale.training.session import SAVE_SECONDS, ProgressCallback, first_weights, train_network

log = logging.getLogger(__name__)


def train_run(
    cfg: ExperimentConfig,
    *,
    mode: str = "pretrain",
    source_run: str | Path | None = None,
    shots: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    force_unlock: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Train a network into ``WORKSPACE/runs/NAME``; pretraining also fits the baselines of ``train.baselines``.

    A complete run of the same recipe is left alone, an unfinished one goes on from its last checkpoint. Processes that torchrun or srun
    started together train one network together; the first of them writes.

    Args:
        cfg: the experiment; with ``train.seeds`` one run after the other is trained.
        mode: "pretrain", "finetune" or "few-shot".
        source_run: name or path of the run to go on from (finetune and few-shot).
        shots: whole years for few-shot; few_shot.shots when None.
        seed: replaces train.seed and train.seeds.
        name: of the run; made from model, pairs and mode when None. With several seeds, ``-seedN`` follows.
        device: "auto", "cpu" or "cuda".
        overwrite: replace a run (and baselines of another recipe).
        dry_run: plan and build, write nothing.
        force_unlock: take over a dead job's lock.
        progress: called with (epoch, epochs, scores in words).

    Returns:
        ``artefact`` (the run folder, or that of all runs where there are several) and a summary.

    Raises:
        ConfigError, InputDataError, OutputExistsError, EnvironmentMissingError: before anything is written, where that can be known.
        Stopped: a signal came, or the job is about to end; everything is saved.
        DownscaleError: another process of the training has ended.
    """
    seeds: list[int | None] = [seed] if seed is not None or not cfg.train.seeds else list(cfg.train.seeds)
    where, found = resolve_device(device), []
    with StopFlag.in_job(cfg.train.margin_seconds) as stop, ranks_of(where, stop) as ranks:
        for one in seeds:
            own = f"{name}-seed{one}" if name is not None and len(seeds) > 1 else name
            planner = partial(_plan, cfg, mode=mode, source_run=source_run, shots=shots, seed=one, name=own)
            options = {"overwrite": overwrite, "dry_run": dry_run, "force_unlock": force_unlock}
            found.append(_one_run(cfg, planner, where, ranks, stop, **options, progress=progress))
    if len(found) == 1:
        return found[0]
    paths = [Path(run.pop("would write", run.get("artefact"))) for run in found]
    runs = {path.name: _in_words(run) for path, run in zip(paths, found, strict=True)}
    return {"artefact": None if dry_run else cfg.workspace_path() / "runs", "runs": runs}


def _in_words(summary: Mapping[str, Any]) -> str:
    """The summary of one of several runs on a line."""
    return ", ".join(f"{key} {value}" for key, value in summary.items() if isinstance(value, str | int))


def _one_run(
    cfg: ExperimentConfig, planner: Callable[[PairStore], Plan], where: torch.device, ranks: Ranks, stop: StopFlag, *, overwrite: bool,
    dry_run: bool, force_unlock: bool, progress: ProgressCallback | None,
) -> dict[str, Any]:  # fmt: skip
    store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
    plan = _with_feeding(cfg, store, planner(store), ranks)
    if dry_run:
        parameters = sum(value.numel() for value in build(plan.spec).parameters())
        return {"artefact": None, "would write": str(plan.path), "parameters": parameters, "device": str(where), **plan.days}
    ground: Ground | None = None
    lines: list[str] = []
    complete = False
    with ExitStack() as stack:
        with ranks.first_alone():
            if plan.mode == "pretrain":
                ground = Ground.of(cfg, store, _statistics(cfg, store, plan))
                spec = model_spec(cfg, store, plan.spec["model"], ground.statistics)
                plan = replace(plan, spec=spec, validation=list(ground.validation))
                wanted = cfg.train.baselines if ranks.first else []
                for baseline in wanted:
                    if not stop.set:
                        lines.append(train_baseline(ground, baseline, overwrite=overwrite, force_unlock=force_unlock))
            complete = standing(plan.path, plan.recipe, overwrite=overwrite and ranks.first) == "complete"
            if ranks.first and not complete:
                stack.enter_context(folder_lock(plan.path, force=force_unlock))
                write_start(plan.path, dump_yaml(cfg), plan.recipe, where)
            if not complete:
                stack.enter_context(log_to(plan.path, rank=ranks.rank, world=ranks.world))
            emulator = None if complete else first_weights(plan, store, ground)
        if ranks.any(stop.set):
            raise Stopped(f"stopped by {stop.name or 'another process'} before the first step", hint="run the command again to go on")
        if emulator is None:
            log.info("%s is complete and has this recipe: nothing to do", plan.path)
            return {"artefact": plan.path, "unchanged": "the run is complete and has this recipe", "baselines": lines, **plan.days}
        plan = stack.enter_context(_near(cfg, store, plan, ranks, stop))
        summary = train_network(
            cfg, store, plan, ground, emulator.to(where), stop=stop, ranks=ranks, progress=progress, save_seconds=SAVE_SECONDS
        )  # fmt: skip
    return {"artefact": plan.path, **summary, "baselines": lines, **plan.days}


def _with_feeding(cfg: ExperimentConfig, store: PairStore, plan: Plan, ranks: Ranks) -> Plan:
    """How the days come; where one of the processes lacks the memory, all read from disk, in the same order."""
    decided = with_feeding(cfg.train, store, plan)
    alone = decided.feeding is not None and decided.feeding.streamed
    if ranks.any(alone) and not alone:
        return with_feeding(cfg.train.model_copy(update={"stream": "always"}), store, plan)
    return decided


@contextmanager
def _near(cfg: ExperimentConfig, store: PairStore, plan: Plan, ranks: Ranks, stop: StopFlag) -> Iterator[Plan]:
    """The plan on a copy of the pairs on this node's own disk, where the config wants one and the days are read again and again."""
    feeding = plan.feeding
    if cfg.hpc.scratch is None or feeding is None or not feeding.streamed:
        yield plan
        return
    with local_copy(store.path, cfg.hpc.scratch, meet=ranks.wait, stopped=lambda: stop.received is not None) as copy:
        if copy is None:
            yield plan
            return
        near = PairStore.open(copy, cfg.split)
        train, validation = ([replace(one, group=near.group(one.group.name)) for one in some] for some in (plan.train, plan.validation))
        yield replace(plan, train=train, validation=validation, feeding=replace(feeding, copy=copy))


def _plan(
    cfg: ExperimentConfig,
    store: PairStore,
    *,
    mode: str,
    source_run: str | Path | None,
    shots: int | None,
    seed: int | None,
    name: str | None,
) -> Plan:
    if mode == "pretrain":
        if source_run is not None or shots is not None:
            raise ConfigError("--from and --shots belong to --mode finetune and few-shot", hint="leave them out, or give the mode")
        return plan_pretrain(cfg, store, seed=seed, name=name)
    if mode not in ("finetune", "few-shot"):
        raise ConfigError(f"there is no training mode '{mode}'", hint="use pretrain, finetune or few-shot")
    if source_run is None:
        raise ConfigError(f"--mode {mode} needs a run to go on from", hint="give --from RUN")
    if shots is not None and mode != "few-shot":
        raise ConfigError("--shots belongs to --mode few-shot", hint="leave it out, or give the mode")
    source = load_run(find_run(cfg.workspace_path(), source_run), device="cpu")
    return plan_adaptation(cfg, store, source, mode=mode, shots=shots, seed=seed, name=name)


def _statistics(cfg: ExperimentConfig, store: PairStore, plan: Plan) -> Statistics:
    cases = [(name, kind) for name, _, kind in (case.partition("/") for case in cfg.train.on)]
    scaling = cfg.normalise
    statistics = training_statistics(store, cases, dict(scaling.targets), predictors=scaling.predictors, detrend=scaling.detrend)
    spans = [f"{portion.days[0]} to {portion.days[-1]} of {portion.name}" for portion in plan.train]
    check_channels(cfg, store, statistics, f"{statistics.n_days} training days, {'; '.join(spans)}")
    return statistics
