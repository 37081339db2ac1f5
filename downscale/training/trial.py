"""One step of a training, tried on a few days: of the pretraining, and of each way to go on that the config has."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor

from downscale.config.schema import ExperimentConfig, FewShotConfig, FineTuneConfig
from downscale.errors import ConfigError, InputDataError
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs as Batch
from downscale.pairs.inputs import GroupInputs, Inputs
from downscale.pairs.split import assign
from downscale.pairs.store import PairStore
from downscale.training.adaptation import make_ready, require_method
from downscale.training.loss_fields import training_loss
from downscale.training.plan import settings_of
from downscale.training.reading import Holes, read_windows
from downscale.training.samples import as_inputs, split_portions
from downscale.training.shots import choose_years, shot_index
from downscale.training.state import State


def rehearse_adaptations(cfg: ExperimentConfig, inputs: Inputs, store: PairStore, emulator: Emulator) -> dict[str, str]:
    """Try finetune and few-shot, where the config has them, as going on from a run of this config's own network.

    Args:
        cfg: the experiment.
        inputs: opened, for the days that there really are.
        store: the sample of days.
        emulator: the network; it is not changed.

    Returns:
        mode -> what it would learn from, in words.

    Raises:
        ConfigError: no days, not enough whole years, a method that the network has not, nothing to replay.
        InputDataError: there are no such pairs, or the loss is not finite.
    """
    sections = {"finetune": cfg.finetune, "few-shot": cfg.few_shot}
    return {mode: _rehearse(cfg, inputs, store, emulator, mode, section) for mode, section in sections.items() if section is not None}


def _rehearse(
    cfg: ExperimentConfig, inputs: Inputs, store: PairStore, emulator: Emulator, mode: str, section: FineTuneConfig
) -> str:  # fmt: skip
    portions = split_portions(store, section.on, "train")
    require_method(emulator, section.method, name=f"{mode}, a run of this config")
    if section.replay and set(cfg.train.on) <= set(section.on):
        raise ConfigError(f"{mode}: nothing to replay, train.on has no other pairs than these", hint=f"leave out {_key(mode)}.replay")
    groups = {group.name: group for group in inputs.groups}
    counts = np.sum([_days(cfg, groups[case.partition("/")[0]], mode, section) for case in section.on], axis=0)
    for name, count in zip(("training", "validation"), counts.tolist(), strict=True):
        if not count:
            raise ConfigError(f"{mode}: {', '.join(section.on)} has no {name} day", hint="change split, or the section's pairs (on)")
    tried = copy.deepcopy(emulator)
    names = make_ready(tried, section.method, portions)
    words = f"{section.method} on {', '.join(section.on)}, days: train {counts[0]}, validation {counts[1]}"
    if section.method == "calibration":
        return f"{words}; fitted on the days looked at"
    state = State(tried, settings_of(cfg, None, section), training_loss(cfg.loss, store, portions), trainable=names)
    days = min(state.settings.batch_size, 2 * len(portions[0].index))
    loss = try_step(state, *batch_of(store, section.on[0], Holes.of(emulator.spec), days), section.on)
    return f"{words}; {days} days tried, loss {loss:.3f}"


def try_step(state: State, batch: Batch, truth: Tensor, on: list[str]) -> float:
    """The loss of a batch in front of one optimiser step; InputDataError where it or its gradient is not finite."""
    state.emulator.train()
    state.optimiser.zero_grad(set_to_none=True)
    loss = state.loss.combine(*state.loss.totals(state.emulator, batch, truth))
    loss.backward()
    moved = [value for value in state.emulator.parameters() if value.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(moved, state.settings.clip)
    state.optimiser.step()
    value = float(loss.detach())
    if not math.isfinite(value) or not bool(torch.isfinite(norm)):
        raise InputDataError(
            f"the loss of a batch is not finite (loss {value:g}, gradient {float(norm):g})",
            where=", ".join(on),
            hint="look at the predictors and targets of these sources with downscale inspect",
        )
    return value


def batch_of(store: PairStore, case: str, holes: Holes, days: int) -> tuple[Batch, Tensor]:
    """Days of a pair, repeated until there are enough: inputs and truth."""
    name, _, kind = case.partition("/")
    group = store.group(name)
    everything = np.arange(len(group.days))
    maps = read_windows(lambda some: group.predictors(kind, some), group.days, group.calendar, everything, holes).maps
    scalars, truth = torch.from_numpy(group.scalars(everything)), torch.from_numpy(group.target(everything))
    batch = as_inputs(torch.from_numpy(maps), scalars, group.days.astype(np.int64), len(group.targets))
    index = torch.arange(days) % len(group.days)
    return batch[index], truth[index]


def _days(cfg: ExperimentConfig, group: GroupInputs, mode: str, section: FineTuneConfig) -> tuple[int, int]:
    """Days of a group to learn from and to choose the best epoch by."""
    index = assign(group.days, group.calendar, cfg.split)
    if not isinstance(section, FewShotConfig):
        return len(index["train"]), len(index["validation"])
    starts = cfg.split.year_starts
    learn, held_back = shot_index(group.days, index["train"], choose_years(group.days[index["train"]], section.shots, starts), starts)
    return len(learn), len(held_back)


def _key(mode: str) -> str:
    return mode.replace("-", "_")
