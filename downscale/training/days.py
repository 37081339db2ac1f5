"""How a training gets its days: from memory, or from disk as they are needed; decided before anything is written."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from downscale.config.schema import TrainConfig
from downscale.pairs.store import PairStore
from downscale.training.feed import MemoryDays, TrainingDays
from downscale.training.reading import Holes, Portion
from downscale.training.samples import MEMORY_SHARE, Samples, free_memory, load_samples
from downscale.training.stream import StreamedDays, order_of

if TYPE_CHECKING:
    from downscale.training.plan import Plan

log = logging.getLogger(__name__)
BUFFER_DAYS = 4096
"""Days that are mixed at a time when they are read from disk."""
_GPU_SHARE = 0.6


@dataclass(frozen=True)
class Feeding:
    """How a training gets its days.

    Attributes:
        streamed: read from disk as they are needed.
        buffer: days that are mixed at a time; 0: all.
        weights: case -> how often an epoch sees each of its days; 1 where nothing is said.
        copy: of the store, which is read instead of the store itself.
    """

    streamed: bool = False
    buffer: int = 0
    weights: dict[str, float] | None = None
    copy: Path | None = None

    def facts(self, train: Sequence[Portion]) -> dict[str, Any]:
        """What of it decides the result, for the recipe: nothing where each epoch is one permutation of all days."""
        days = sum(len(portion.index) for portion in train)
        weights = {case: weight for case, weight in (self.weights or {}).items() if weight != 1}
        return {**({"buffer_days": self.buffer} if 0 < self.buffer < days else {}), **({"weights": weights} if weights else {})}

    def open(self, store: PairStore, portions: Sequence[Portion], holes: Holes, device: torch.device) -> TrainingDays:
        """The days of all portions, as the training loop takes them. The same batches, whether streamed or not."""
        weights = [(self.weights or {}).get(portion.name, 1.0) for portion in portions]
        if not self.streamed:
            samples = _on_device(load_samples(portions, holes), device)
            return MemoryDays(samples, order_of(portions, buffer=self.buffer, weights=weights))
        path = self.copy or (store.path if store.path.is_dir() else None)
        log.info("%d days are read from disk as they are needed", sum(len(portion.index) for portion in portions))
        return StreamedDays(portions, holes, store=path, buffer=self.buffer, weights=weights)


def with_feeding(cfg: TrainConfig, store: PairStore, plan: Plan) -> Plan:
    """The plan with ``train.stream``, ``train.buffer_days`` and, for pretraining, ``train.weights`` decided.

    An unfinished training keeps the buffer that it began with, also where more memory is free by now.
    """
    portions = [*plan.train, *plan.validation]
    days = sum(len(portion.index) for portion in portions)
    needed = days * day_bytes(store, len(Holes.of(plan.spec).days))
    streamed = cfg.stream == "always" or (cfg.stream == "auto" and needed > MEMORY_SHARE * free_memory())
    buffer = cfg.buffer_days or _begun(plan.path) or (BUFFER_DAYS if streamed else 0)
    feeding = Feeding(streamed, buffer, cfg.weights if plan.mode == "pretrain" else None)
    return replace(plan, feeding=feeding, recipe={**plan.recipe, **feeding.facts(plan.train)})


def day_bytes(store: PairStore, input_days: int) -> int:
    """Bytes of a day in memory: predictors of all its input days, scalars, targets."""
    coarse, fine = (grid.shape[0] * grid.shape[1] for grid in (store.coarse, store.fine))
    return 4 * (coarse * len(store.channels) * input_days + len(store.scalars) + fine * len(store.targets))


def _begun(run: Path) -> int:
    """The buffer of an unfinished training, 0 where there is none."""
    try:
        recipe = json.loads((run / "state" / "recipe.json").read_text())
        return int(recipe.get("buffer_days", 0))
    except (OSError, ValueError, TypeError, AttributeError):
        return 0


def _on_device(samples: Samples, device: torch.device) -> Samples:
    """The days on the GPU when they take at most 60 % of what is free there, else in memory; batches then travel one by one."""
    if device.type != "cuda":
        return samples
    size = sum(tensor.numel() * tensor.element_size() for tensor in (samples.inputs.predictors, samples.inputs.scalars, samples.target))
    if size > _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        log.info("the days take %.1f GiB and stay in memory; batches travel to the GPU", size / 2**30)
        return samples
    return samples.to(device)
