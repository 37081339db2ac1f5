"""Everything that changes while training: weights, averages, optimiser, schedule, counters, random numbers."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from downscale.models.emulator import Emulator
from downscale.training.losses import Loss, make_loss
from downscale.training.optimiser import keep_running, make_optimiser, put_moments
from downscale.training.order import Order

if TYPE_CHECKING:
    from downscale.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)
PLATEAU_FACTOR, PLATEAU_EPOCHS = 0.7, 4
"""Doury et al. (2022): learning rate x 0.7 after 4 epochs without progress."""
LOWEST_RATE = 1e-6
_EMA_WARM_UP = 10


@dataclass(frozen=True)
class Settings:
    """Numbers of one training; see TrainConfig for their meaning."""

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    patience: int = 15
    ema: float = 0.0
    clip: float = 1.0
    seed: int = 0
    l2_sp: float = 0.0
    loss: str = "mse"
    balance: str = "likelihood"
    optimiser: str = "adamw"
    accumulate: int = 1
    precision: str = "auto"
    compile: bool = False
    refit: bool = False


@dataclass
class State:
    """A training between two steps.

    Attributes:
        emulator, settings: what is trained, and how.
        objective: what is minimised; None: as settings.loss and settings.balance say. ``loss`` is the one in use.
        trainable: names of the parameters that the optimiser moves; None: all. The others stand still and have no gradient.
        rank, world: which of how many processes this is; ``randomness`` holds the random numbers of all of them, as last gathered.
        epoch, step: finished epochs, and finished steps of the one that runs.
        bad_epochs: epochs since the best validation loss; ``plateau_epochs`` since the learning rate changed.
        best_loss, best_epoch: of the weights kept.
        loss_sum, samples_seen: running mean of the training loss.
        bad_steps, bad_days, bad_data: steps left out one after the other just now, their days, and those of them with absurd numbers.
        history: a row of metrics per epoch.
    """

    emulator: Emulator
    settings: Settings
    objective: Loss | None = None
    trainable: Collection[str] | None = None
    rank: int = 0
    world: int = 1
    randomness: list[dict[str, Tensor]] = field(default_factory=list)
    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    bad_epochs: int = 0
    plateau_epochs: int = 0
    rate_scale: float = 1.0
    learning_rate: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    loss_sum: float = 0.0
    samples_seen: int = 0
    bad_steps: int = 0
    bad_days: list[str] = field(default_factory=list)
    bad_data: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loss = self.objective or make_loss(self.settings.loss, self.settings.balance)
        everything = dict(self.emulator.named_parameters())
        for name, value in everything.items():
            value.requires_grad_(self.trainable is None or name in self.trainable)
        self.parameters = {name: value for name, value in everything.items() if value.requires_grad}
        self.running = [value for name, value in moving(self.emulator).items() if name not in everything]
        self.optimiser = make_optimiser(
            self.settings.optimiser, self.parameters.values(), rate=self.settings.learning_rate, decay=self.settings.weight_decay
        )
        self.anchor = [value.detach().clone() for value in self.parameters.values()] if self.settings.l2_sp else []
        self.average = self._copy() if self.settings.ema else {}
        self.best = self._copy()

    def batches(self, order: Order) -> list[Tensor]:
        """This epoch's batches of positions, by (seed, epoch) alone; a last batch of one day joins the one before."""
        return order.batches(seed=self.settings.seed, epoch=self.epoch, size=self.settings.batch_size)

    def set_learning_rate(self, steps_per_epoch: int) -> None:
        """Linear warm-up and cosine down to 1e-6 by the step, or the peak times the plateau's factor."""
        settings = self.settings
        rate = settings.learning_rate * self.rate_scale
        if settings.schedule == "cosine":
            warm, total = settings.warmup_epochs * steps_per_epoch, settings.epochs * steps_per_epoch
            progress = min(1.0, max(0.0, self.steps_done - warm) / max(1.0, total - warm))
            low = min(LOWEST_RATE, rate)
            rate = low + (rate - low) * 0.5 * (1 + math.cos(math.pi * progress))
            rate *= min(1.0, (self.steps_done + 1) / warm) if warm else 1.0
        self.learning_rate = rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def count(self, loss: float | None, days: int) -> None:
        """A step is done: its loss enters the epoch's mean; None: it was left out."""
        self.step += 1
        if loss is None:
            self.bad_steps += 1
            return
        self.loss_sum, self.samples_seen = self.loss_sum + loss * days, self.samples_seen + days
        self.bad_steps, self.bad_days, self.bad_data = 0, [], []

    def running_copy(self) -> list[Tensor]:
        """Batch norm's running statistics, which a forward pass changes."""
        return [value.clone() for value in self.running]

    def anchor_penalty(self) -> Tensor | float:
        """l2_sp / 2 * |w - w0|^2 (L2-SP, Li et al. 2018, https://proceedings.mlr.press/v80/li18a.html)."""
        if not self.anchor:
            return 0.0
        apart = [(value - start).square().sum() for value, start in zip(self.parameters.values(), self.anchor, strict=True)]
        return 0.5 * self.settings.l2_sp * torch.stack(apart).sum()

    def moved(self, good: Tensor, running: list[Tensor]) -> None:
        """After a step: where it was not ``good``, batch norm's running statistics go back to ``running``; else the average follows.

        The average is an exponential moving one of the weights, its decay ramped up over the first steps; buffers are copied. On a GPU
        the host does not learn whether the step was good: a bad one then counts in the schedule all the same.
        """
        keep_running(self.running, running, good)
        self.steps_done += 1
        decay = min(self.settings.ema, (1 + self.steps_done) / (_EMA_WARM_UP + self.steps_done))
        share = (1 - decay) * good if good.is_cuda else (1 - decay) * float(good)
        for name, value in moving(self.emulator).items() if self.average else ():
            if name in self.parameters:
                self.average[name].lerp_(value.detach(), share)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside, the emulator holds the averaged weights when there are any."""
        if not self.average:
            yield
            return
        current = self._copy()
        self._put(self.average)
        yield
        self._put(current)

    def judge(self, loss: float) -> None:
        """Keep the weights in the emulator when their validation loss is the best so far; count epochs without progress else.

        With ``refit`` the weights are kept in any case, as long as their loss is finite: these days were learned from.
        """
        if loss < self.best_loss or (self.settings.refit and math.isfinite(loss)):
            self.best_epoch, self.best = self.epoch, self._copy()
        if loss < self.best_loss:
            self.best_loss = loss
            self.bad_epochs = self.plateau_epochs = 0
            return
        self.bad_epochs += 1
        self.plateau_epochs += 1
        if self.settings.schedule == "plateau" and self.plateau_epochs >= PLATEAU_EPOCHS:
            self.rate_scale, self.plateau_epochs = self.rate_scale * PLATEAU_FACTOR, 0

    @property
    def improving(self) -> bool:
        """Whether there is still hope: validation has improved of late, or does not decide."""
        return self.settings.refit or self.bad_epochs < self.settings.patience

    def restore_best(self) -> None:
        """Put the best weights into the emulator."""
        self._put(self.best)

    def checkpoint(self) -> Checkpoint:
        """The state as tensors and JSON."""
        from downscale.training.checkpoint import Checkpoint

        tensors = {f"model.{name}": value for name, value in moving(self.emulator).items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"anchor.{i}": value for i, value in enumerate(self.anchor)}
        for name, parameter in self.parameters.items():
            tensors |= {f"optimiser.{name}.{key}": value for key, value in self.optimiser.state.get(parameter, {}).items()}
        for rank, states in enumerate(self.randomness if self.world > 1 else [self.random_numbers()]):
            tensors |= {f"rng{rank or ''}.{device}": value for device, value in states.items()}
        facts = {name: getattr(self, name) for name in _COUNTERS} | {"settings": asdict(self.settings), "world": self.world}
        return Checkpoint(tensors, facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on exactly where a checkpoint was taken."""
        for name in _COUNTERS:
            setattr(self, name, checkpoint.facts.get(name, getattr(self, name)))
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in checkpoint.tensors.items():
            kind, _, rest = name.partition(".")
            parts.setdefault(kind, {})[rest] = value
        self._put(parts["model"])
        device = self.emulator.device
        self.average = {name: value.to(device) for name, value in parts.get("average", {}).items()}
        self.best = {name: value.to(device) for name, value in parts["best"].items()}
        self.anchor = [parts["anchor"][str(i)].to(device) for i in range(len(parts.get("anchor", {})))]
        for name, parameter in self.parameters.items():
            keys = {key.removeprefix(f"{name}."): value for key, value in parts.get("optimiser", {}).items() if key.startswith(f"{name}.")}
            if keys:
                put_moments(self.optimiser, parameter, keys)
        if checkpoint.facts.get("world", 1) != self.world:
            log.warning(
                "the training began with %d process(es) and goes on with %d: results are the same up to rounding and random numbers",
                checkpoint.facts.get("world", 1), self.world,
            )  # fmt: skip
        self._put_random_numbers(parts.get(f"rng{self.rank or ''}", {}))

    def random_numbers(self) -> dict[str, Tensor]:
        """The states of the generators that this process draws from, by device."""
        states = {"cpu": torch.get_rng_state()}
        return states | ({"cuda": torch.cuda.get_rng_state(self.emulator.device)} if self.emulator.device.type == "cuda" else {})

    def _put_random_numbers(self, states: dict[str, Tensor]) -> None:
        """Draw on where a process of this number stopped; where there was none, from a place of its own."""
        if "cpu" not in states:
            torch.manual_seed(hash((self.settings.seed, self.steps_done, self.rank)))
            return
        torch.set_rng_state(states["cpu"])
        if self.emulator.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.emulator.device)

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in moving(self.emulator).items()}

    def _put(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in moving(self.emulator).items():
                value.copy_(values[name])


_BATCH_NORM = ("running_mean", "running_var", "num_batches_tracked")
_COUNTERS = ("epoch", "step", "steps_done", "bad_epochs", "plateau_epochs", "rate_scale", "learning_rate", "best_loss", "best_epoch",
             "loss_sum", "samples_seen", "bad_steps", "bad_days", "bad_data", "history")  # fmt: skip


def moving(emulator: Emulator) -> dict[str, Tensor]:
    """What training changes: the parameters, and the running statistics of batch norm. Statistics and backbone stand still."""
    running = {name: value for name, value in emulator.named_buffers() if name.rsplit(".", 1)[-1] in _BATCH_NORM}
    return dict(emulator.named_parameters()) | running
