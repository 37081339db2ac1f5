"""What the output channels of a network mean: one value a cell, or the parameters of a distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHANNELS = {"point": 1, "gaussian": 2, "bernoulli_gamma": 3}
"""Kind of head -> its output channels."""
LEAST_VARIANCE = 1e-4
_LEAST_CHANCE = 1e-6
_LOGIT = math.log((1 - _LEAST_CHANCE) / _LEAST_CHANCE)
_LOG = 6.0
WET_MARGIN = 1e-6
"""A day at the wet threshold exceeds the origin of the gamma distribution by this, mm/day."""


@dataclass(frozen=True)
class Head:
    """The channels of one target.

    Attributes:
        kind: key of CHANNELS.
        start: position of its first channel.
        wet: wet-day threshold in mm/day (bernoulli_gamma only).
    """

    kind: str
    start: int
    wet: float = 1.0

    def of(self, raw: Tensor) -> Tensor:
        """The head's own channels (..., channels, Y, X) of all (..., P, Y, X)."""
        return raw.narrow(-3, self.start, CHANNELS[self.kind])

    @property
    def shift(self) -> float:
        """Origin of the gamma distribution, mm/day: the threshold less a margin."""
        return self.wet - WET_MARGIN


class Heads:
    """The heads of all targets, channel after channel in the order of the targets.

    Args:
        targets: names.
        kinds: target -> {"kind": ..., "wet_mm": ...} of those that are not a single value.
    """

    def __init__(self, targets: Sequence[str], kinds: Mapping[str, Mapping[str, Any]]) -> None:
        self.each: list[Head] = []
        start = 0
        for name in targets:
            facts = kinds.get(name, {"kind": "point"})
            self.each.append(Head(facts["kind"], start, float(facts.get("wet_mm", 1.0))))
            start += CHANNELS[facts["kind"]]
        self.channels = start
        self.points = all(head.kind == "point" for head in self.each)

    def on_top(self, correction: Tensor, base: Tensor) -> Tensor:
        """Network output (batch, P, Y, X) with a backbone's estimate (batch, target, Y, X) added to single values and Gaussian means.

        The parameters of a Bernoulli-gamma distribution are not in the space of the estimate: it is not added to them.
        """
        if self.points:
            return base + correction
        zero = torch.zeros_like(base[:, 0])
        parts: list[Tensor] = []
        for i, head in enumerate(self.each):
            parts += [zero if head.kind == "bernoulli_gamma" else base[:, i], *[zero] * (CHANNELS[head.kind] - 1)]
        return correction + torch.stack(parts, 1)


def gaussian(channels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance, each (..., Y, X), in loss space, from channels (..., 2, Y, X); variance = softplus + 1e-4."""
    mean, spread = channels.unbind(-3)
    return mean, F.softplus(spread) + LEAST_VARIANCE


def bernoulli_gamma(channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logit of the wet chance, log of shape and log of scale (mm/day), each (..., Y, X), from channels (..., 3, Y, X).

    The chance is kept in 1e-6 .. 1 - 1e-6, shape and scale in e^-6 .. e^6. The gamma distribution is that of the amount above
    ``Head.shift`` on wet days.
    """
    logit, log_shape, log_scale = channels.unbind(-3)
    return logit.clamp(-_LOGIT, _LOGIT), log_shape.clamp(-_LOG, _LOG), log_scale.clamp(-_LOG, _LOG)


def expected_amount(channels: Tensor, head: Head) -> Tensor:
    """Mean amount p (a b + shift) (..., Y, X), mm/day, of Bernoulli-gamma channels (..., 3, Y, X)."""
    logit, log_shape, log_scale = bernoulli_gamma(channels)
    return logit.sigmoid() * ((log_shape + log_scale).exp() + head.shift)


def draw_amount(channels: Tensor, head: Head, generator: torch.Generator | None) -> Tensor:
    """One amount a cell (..., Y, X), mm/day, from Bernoulli-gamma channels (..., 3, Y, X); cells are drawn independently."""
    logit, log_shape, log_scale = bernoulli_gamma(channels)
    chance = torch.rand(logit.shape, generator=generator, dtype=logit.dtype, device=logit.device)
    amount = torch._standard_gamma(log_shape.exp(), generator=generator) * log_scale.exp() + head.shift
    return torch.where(chance < logit.sigmoid(), amount, 0.0)
