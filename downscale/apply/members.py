"""Several fields a day: runs of several seeds, draws from a distribution, or draws with dropout.

Every draw has a random stream of its own, which its run, input, day and number decide: it does not matter in which block, batch or
process a day is computed, nor which days were done before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from downscale.apply.predict import batch_size, emulate
from downscale.config.trust import MembersConfig
from downscale.errors import ConfigError
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.training.run import Run

log = logging.getLogger(__name__)
DRAWS = 10
_DROPOUT = (nn.Dropout, nn.Dropout2d)
_SEED = re.compile(r"-seed\d+")


@dataclass(frozen=True)
class Members:
    """The members of one prediction.

    Attributes:
        config: which, and how they are written.
        runs: one for each member (seeds), or the one that draws.
        number: of members.
    """

    config: MembersConfig
    runs: tuple[Run, ...]
    number: int

    @property
    def labels(self) -> tuple[str, ...]:
        """One for each member: the run's name, or a running number."""
        if self.config.of == "seeds":
            return tuple(run.path.name for run in self.runs)
        return tuple(str(number + 1) for number in range(self.number))

    @property
    def name(self) -> str:
        """Of the prediction's folder: that of the run, of the seeds without their number."""
        name = self.runs[0].path.name
        return f"{_SEED.sub('', name)}-seeds" if self.config.of == "seeds" else f"{name}-{self.config.of}"

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the numbers, for the recipe."""
        return {"of": self.config.of, "number": self.number, "write": self.config.write, "runs": [run.model_id for run in self.runs]}

    @property
    def words(self) -> str:
        """For attributes."""
        what = {"seeds": "runs that differ in their seed", "samples": "draws from the distribution", "dropout": "draws with dropout"}
        return f"{self.number} {what[self.config.of]}"

    def fields(self, key: str, *arrays: np.ndarray) -> np.ndarray:
        """Fields (n, M, V, Y, X) float32 in working units of whole days.

        Args:
            key: of the input and its kind: draws of two inputs, or of RCMu and GCM of one group, are independent.
            *arrays: predictors, scalars, surface and days (n,) yyyymmdd, as emulate takes them.
        """
        if self.config.of == "seeds":
            return np.stack([emulate(run, *arrays) for run in self.runs], axis=1)
        run, days = self.runs[0], arrays[3]
        size, n = batch_size(run), len(days)
        result = np.empty((n, self.number, len(run.targets), *run.fine.shape), np.float32)
        draw = _dropped if self.config.of == "dropout" else _drawn
        with torch.inference_mode():
            for start in range(0, n, size):
                index = np.minimum(np.arange(start, start + size), n - 1)
                inputs = Inputs(*(torch.from_numpy(array[index]) for array in arrays)).to(run.device)
                seeds = [[_seed(run, key, day, member) for day in days[index].tolist()] for member in range(self.number)]
                for member, fields in enumerate(draw(run.emulator, inputs, seeds, min(size, n - start))):
                    result[start : start + size, member] = fields.cpu().numpy()
        return result


def mean_and_spread(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n - 1) over the members of (n, M, V, Y, X): (n, V, Y, X) float32 each; NaN stays NaN."""
    values = fields.astype(np.float64)
    return values.mean(axis=1).astype(np.float32), values.std(axis=1, ddof=1).astype(np.float32)


def plan_members(config: MembersConfig, runs: Sequence[Run]) -> list[Members]:
    """The ensembles that some runs make.

    Runs that make none (baselines, networks without distribution or dropout, a single seed) are left out, with a line in the log.

    Raises:
        ConfigError: none makes one, or there are fewer seeds than asked for.
    """
    groups = _by_recipe(runs) if config.of == "seeds" else [[run] for run in runs]
    found = [_ensemble(config, group) for group in groups if _reason(config, group) == ""]
    reasons = {run.path.name: reason for group in groups if (reason := _reason(config, group)) for run in group[:1]}
    if not found:
        raise ConfigError(
            f"apply.members: no run gives members of {config.of}",
            where="; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
            hint="train with train.seeds, a loss that gives a distribution, or model.dropout; or leave apply.members out",
        )
    for name, reason in reasons.items():
        log.info("apply.members: %s is left out: %s", name, reason)
    return found


def _ensemble(config: MembersConfig, runs: Sequence[Run]) -> Members:
    if config.of != "seeds":
        return Members(config, (runs[0],), config.number or DRAWS)
    if config.number is not None and config.number > len(runs):
        raise ConfigError(
            f"apply.members.number: {config.number}, and there are {len(runs)} seeds of {runs[0].path.name}",
            hint=f"train with train.seeds, or set it to {len(runs)} at most",
        )
    return Members(config, tuple(runs[: config.number]), config.number or len(runs))


def _reason(config: MembersConfig, runs: Sequence[Run]) -> str:
    """Why some runs give no members; "" where they do."""
    emulator = runs[0].emulator
    if config.of == "seeds":
        return "" if len(runs) > 1 else "it has one seed"
    if config.of == "samples":
        return "" if not emulator.heads.points or emulator.noise is not None else "it gives single values"
    return "" if any(layer.p > 0 for layer in _dropouts(emulator)) else "it has no dropout"


def _by_recipe(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but the seed together, by seed."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        recipe = json.loads(json.dumps(run.card["recipe"]))
        recipe.get("settings", {}).pop("seed", None)
        recipe["source_run"] = _SEED.sub("", str((recipe.get("source_run") or {}).get("name")))
        groups.setdefault(json.dumps([run.card["mode"], run.spec, recipe], sort_keys=True), []).append(run)
    return [sorted(group, key=lambda run: int(run.card["recipe"].get("settings", {}).get("seed", 0))) for group in groups.values()]


def _seed(run: Run, key: str, day: int, member: int) -> int:
    text = f"{run.card['weights_sha256']} {key} {day} {member}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _streams(seeds: Sequence[int], device: torch.device) -> list[torch.Generator]:
    """A random stream for each day of a batch."""
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def _drawn(emulator: Emulator, inputs: Inputs, seeds: Sequence[Sequence[int]], count: int) -> Iterator[Tensor]:
    """(count, target, Y, X) of each member, of the first days of the batch; the network is run once where it has no noise."""
    raw = emulator.raw(inputs) if emulator.noise is None else None
    for one in seeds:
        streams = _streams(one, emulator.device)
        given = raw
        if emulator.noise is not None:
            size = emulator.noise.shape[1]
            given = emulator.raw(inputs, torch.stack([torch.randn(size, generator=some, device=emulator.device) for some in streams]))
        assert given is not None
        days = [emulator.drawn(given[i : i + 1], inputs[i : i + 1], some) for i, some in enumerate(streams[:count])]
        yield torch.cat(days)


def _dropped(emulator: Emulator, inputs: Inputs, seeds: Sequence[Sequence[int]], count: int) -> Iterator[Tensor]:
    """(count, target, Y, X) of each member: the mean estimate, with features left out."""
    for one in seeds:
        with _dropout(emulator, _streams(one, emulator.device)):
            fields: Tensor = emulator(inputs)
        yield fields[:count]


@contextmanager
def _dropout(emulator: Emulator, streams: Sequence[torch.Generator]) -> Iterator[None]:
    """Inside, dropout layers leave out features as in training, each day by its own stream."""

    def leave_out(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        del given
        assert isinstance(layer, _DROPOUT)
        shape = output.shape[1:2] if isinstance(layer, nn.Dropout2d) else output.shape[1:]
        kept = torch.stack([torch.rand(shape, generator=some, device=output.device) >= layer.p for some in streams])
        return output * kept.view(*kept.shape, *[1] * (output.ndim - kept.ndim)) / (1.0 - layer.p)

    handles = [layer.register_forward_hook(leave_out) for layer in _dropouts(emulator)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _dropouts(emulator: Emulator) -> list[nn.Dropout | nn.Dropout2d]:
    return [layer for layer in emulator.modules() if isinstance(layer, _DROPOUT)]
