"""Everything that a long job would do, done once on a few days: what is wrong comes out before the queue, with what the job will take."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from downscale.cf.calendar import iso
from downscale.config.load import differences
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, EnvironmentMissingError, InputDataError, Problems
from downscale.hpc.doctor import resident
from downscale.models.emulator import Emulator
from downscale.pairs.build import STORE_NAME
from downscale.pairs.inputs import Inputs, open_inputs
from downscale.pairs.normalise import compute_statistics
from downscale.pairs.sample import Sample, read_sample, sample_store, strange_pairs
from downscale.pairs.split import SPLITS, assign, check_not_empty
from downscale.pairs.store import PairStore, read_attributes
from downscale.pairs.tasks_memory import day_bytes
from downscale.pairs.trend import require_change
from downscale.training.assemble import check_channels, model_spec, new_emulator, resolve_device
from downscale.training.days import BUFFER_DAYS
from downscale.training.kernel_ridge import check_days
from downscale.training.loss_fields import training_loss
from downscale.training.precision import choose
from downscale.training.reading import Holes
from downscale.training.samples import MEMORY_SHARE, free_memory, split_portions
from downscale.training.state import Settings, State
from downscale.training.trial import batch_of, rehearse_adaptations

log = logging.getLogger(__name__)
ProgressCallback = Callable[[int, int, str], None]
_MOST_CELLS = 2**19
"""Fine cells times days of the batch that is tried; a larger batch is tried in part and its figures are scaled."""
_COPIES = 5
"""Of the weights: themselves, gradients, two moments of AdamW, the best so far; one more with an average."""


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found; bytes and seconds are estimates.

    Attributes:
        groups: a line per group of pairs.
        grids: in words.
        split: split -> days, over the pairs of train.on.
        parameters: of the network.
        tried: days of the batch that was tried, and the loss it gave.
        memory: what -> bytes while training.
        disk: what -> bytes.
        seconds: what -> seconds on this CPU.
        steps: of the whole training.
        notes: what was converted, wrapped, assumed.
        warnings: what prepare or train would stop at in this workspace.
        adaptations: "finetune" and "few-shot", where the config has them -> what they would learn from.
    """

    groups: list[str]
    grids: str
    split: dict[str, int]
    parameters: int
    tried: tuple[int, float]
    memory: dict[str, int]
    disk: dict[str, int]
    seconds: dict[str, float]
    steps: int
    notes: list[str]
    warnings: list[str]
    adaptations: dict[str, str] = field(default_factory=dict)


def rehearse(cfg: ExperimentConfig, *, workers: int | None = None, progress: ProgressCallback | None = None) -> Rehearsal:
    """Open all inputs, read some days of each, build the model and run one batch forward and backward on the CPU, also of
    finetune and few-shot where the config has them. Writes nothing.

    Args:
        cfg: the experiment.
        workers: processes that read file headers.
        progress: called with (groups read, groups, name).

    Raises:
        InputDataError: all that is wrong with the inputs, as findings.
        ConfigError: the config does not fit the inputs.
    """
    program = resident()
    inputs = open_inputs(cfg, workers=workers)
    with closing(inputs):
        split = _count(cfg, inputs)
        problems, samples = Problems(), []
        for number, group in enumerate(inputs.groups):
            with problems.caught():
                samples.append(read_sample(inputs, group))
            if progress:
                progress(number + 1, len(inputs.groups), group.name)
        problems.raise_any()
        store = sample_store(cfg, inputs, samples)
        emulator = _build(cfg, store)
        tried, step_seconds, activations = _try(cfg, store, emulator)
        adaptations = rehearse_adaptations(cfg, inputs, store, emulator)
        found = _sum_up(cfg, inputs, samples, store, split, emulator, tried, step_seconds, activations)
        return replace(found, adaptations=adaptations, memory={"program and libraries": program, **found.memory})


def _count(cfg: ExperimentConfig, inputs: Inputs) -> dict[str, int]:
    """Days of each split over the pairs of train.on; ConfigError where one is empty, or holds too many days for kernel_ridge."""
    learned = {case.partition("/")[0] for case in cfg.train.on}
    groups = [group for group in inputs.groups if group.name in learned]
    index = [assign(group.days, group.calendar, cfg.split) for group in groups]
    counts = {name: sum(len(one[name]) for one in index) for name in SPLITS}
    check_not_empty(counts, cfg.split)
    if cfg.normalise.detrend:
        column = inputs.forcings.names.index(cfg.normalise.detrend)
        numbers = [inputs.forcings(group.days[one["train"]], group.calendar) for group, one in zip(groups, index, strict=True)]
        require_change(cfg.normalise.detrend, np.concatenate(numbers)[:, column])
    if "kernel_ridge" in cfg.train.baselines:
        check_days(counts["train"])
    return counts


def _build(cfg: ExperimentConfig, store: PairStore) -> Emulator:
    """The network with the statistics of the sample; ConfigError when it cannot be built for these grids."""
    pairs = [(store.group(name), kind) for name, _, kind in (case.partition("/") for case in cfg.train.on)]
    statistics = compute_statistics(pairs, dict(cfg.normalise.targets), store.targets, store.scalars)
    check_channels(cfg, store, statistics, "the days looked at")
    spec = model_spec(cfg, store, cfg.model.model_dump(), statistics)
    torch.manual_seed(cfg.train.seed)
    try:
        return new_emulator(spec, store, statistics)
    except (RuntimeError, ValueError) as error:
        coarse, fine = store.coarse.shape, store.fine.shape
        raise ConfigError(
            f"model {cfg.model.name} cannot be built: {str(error).splitlines()[0]}",
            where=f"coarse {coarse[0]} x {coarse[1]}, fine {fine[0]} x {fine[1]}",
            hint="choose a larger domain or another model",
        ) from error


def _try(cfg: ExperimentConfig, store: PairStore, emulator: Emulator) -> tuple[tuple[int, float], float, int]:
    """One optimiser step: (days, loss), seconds and bytes kept for the backward pass, both of a whole batch."""
    days = min(cfg.train.batch_size, max(2, _MOST_CELLS // (store.fine.shape[0] * store.fine.shape[1])))
    batch, truth = batch_of(store, cfg.train.on[0], Holes.of(emulator.spec), days)
    settings = cfg.train
    state = State(emulator, Settings(batch_size=days, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay))
    objective = training_loss(cfg.loss, store, split_portions(store, cfg.train.on, "train"))
    emulator.train()
    kept = _Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor):
        loss = objective.combine(*objective.totals(emulator, batch, truth))
    loss.backward()  # the first step pays for allocations: the second is timed
    started = time.monotonic()
    state.optimiser.zero_grad(set_to_none=True)
    objective.combine(*objective.totals(emulator, batch, truth)).backward()
    norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), settings.clip)
    state.optimiser.step()
    seconds = time.monotonic() - started
    value = float(loss.detach())
    if not math.isfinite(value) or not bool(torch.isfinite(norm)):
        raise InputDataError(
            f"the loss of a batch is not finite (loss {value:g}, gradient {float(norm):g})",
            where=", ".join(cfg.train.on),
            hint="look at the predictors and targets of these sources with downscale inspect",
        )
    share = settings.batch_size / days
    return (days, value), seconds * share, int(kept.bytes * share)


class _Kept:
    """Counts the memory that autograd holds for the backward pass, each storage once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.bytes = 0

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Hook of saved_tensors_hooks."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _sum_up(
    cfg: ExperimentConfig, inputs: Inputs, samples: list[Sample], store: PairStore, split: dict[str, int], emulator: Emulator,
    tried: tuple[int, float], step_seconds: float, activations: int,
) -> Rehearsal:  # fmt: skip
    coarse, fine = inputs.geometry.coarse.shape, inputs.geometry.fine.shape
    parameters = sum(value.numel() for value in emulator.parameters())
    fine_bytes = 4 * fine[0] * fine[1] * len(inputs.targets)
    maps = len(inputs.channels) * len(Holes.of(emulator.spec).days)
    day = 4 * coarse[0] * coarse[1] * maps + fine_bytes + 4 * len(inputs.forcings.names)
    steps = math.ceil(split["train"] / cfg.train.batch_size)
    held = _held(cfg, sum(split[name] for name in ("train", "validation")), day)
    applied = sum(len(group.days) * (int(group.rcm is not None) + int(group.gcm is not None)) for group in inputs.groups)
    sources = [source for group in inputs.groups for source in group.sources]
    weights = 4 * parameters * (_COPIES + int(cfg.train.ema > 0))
    seconds = {"prepare": sum(sample.seconds_a_day * len(sample.group.days) for sample in samples), "one epoch": step_seconds * steps}
    return Rehearsal(
        groups=[_describe(cfg, sample) for sample in samples], grids=f"coarse {coarse[0]} x {coarse[1]}, fine {fine[0]} x {fine[1]}",
        split=split, parameters=parameters, tried=tried,
        memory={"training and validation days": held, "weights, gradients, optimiser": weights, "one batch": activations},
        disk={"pairs.zarr, before compression": sum(day_bytes(inputs, group) * len(group.days) for group in inputs.groups),
              "one run": 4 * parameters * 2, "predictions of one run, before compression": applied * fine_bytes},
        seconds=seconds, steps=steps * cfg.train.epochs,
        notes=list(dict.fromkeys([*inputs.geometry.notes, *(note for source in sources for note in source.notes)])),
        warnings=[*strange_pairs(samples, store.channels), *_standing(cfg, inputs), *_unable(cfg)],
    )  # fmt: skip


def _held(cfg: ExperimentConfig, days: int, day: int) -> int:
    """Bytes of the days that lie in memory while training: all, or those that are mixed where they are read from disk."""
    streamed = cfg.train.stream == "always" or (cfg.train.stream == "auto" and days * day > MEMORY_SHARE * free_memory())
    return day * min(days, cfg.train.buffer_days or BUFFER_DAYS) if streamed else day * days


def _describe(cfg: ExperimentConfig, sample: Sample) -> str:
    group = sample.group
    line = f"{group.name}: {iso(group.days[0])} to {iso(group.days[-1])}, {len(group.days)} days ({group.calendar})"
    if group.truth is None:
        return f"{line}; to apply to, no truth"
    kinds = " + ".join(filter(None, ["perfect" if group.rcm else "", "imperfect" if group.gcm else ""]))
    counts = ", ".join(f"{name} {len(index)}" for name, index in assign(group.days, group.calendar, cfg.split).items())
    return f"{line}, {kinds}; {counts}"


def _standing(cfg: ExperimentConfig, inputs: Inputs) -> list[str]:
    """What of another recipe already stands where prepare would write."""
    path = cfg.workspace_path() / STORE_NAME
    if not path.exists():
        return []
    try:
        changed = differences(read_attributes(path)["recipe"], _plain(inputs.recipe))
    except InputDataError:
        return [f"{path} is not a pair store: prepare will refuse to replace it"]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return [f"{path} was made by another recipe, prepare will need --overwrite: {'; '.join(changed[:3])}{more}"] if changed else []


def _unable(cfg: ExperimentConfig) -> list[str]:
    """What the device that train would take on this machine cannot do (S15)."""
    try:
        choose(cfg.train.precision, resolve_device("auto"), compiled=cfg.train.compile)
    except EnvironmentMissingError as error:
        return [f"on this machine {error.message}: {error.hint}"]
    return []


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
