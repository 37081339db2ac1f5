"""What training minimises: a loss for each target over its valid cells and days, put together over targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from downscale.models.emulator import Emulator
from downscale.models.heads import expected_amount
from downscale.models.inputs import Inputs
from downscale.training import loss_terms

_TINY = 1e-12
_SINGLE = 4
"""Bytes of a float32: a log-likelihood is not computed with fewer."""
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"mse": loss_terms.squared, "mae": loss_terms.absolute}
"""Losses that are functions of the error alone and have no options."""
LOGARITHMIC = frozenset({"gaussian", "bernoulli_gamma"})
"""Losses that are negative log-likelihoods: they may be negative, and enter "likelihood" without another logarithm."""


@dataclass(frozen=True)
class LossFields:
    """What losses know of cells.

    Attributes:
        land: (Y, X) bool, cells that count; None: all.
        gamma: target -> (shape, scale), each (Y, X), NaN where a cell has no distribution; for asymmetric_gamma.
        cell: (Y * X,) int64, the coarse cell in which each fine cell lies; ``cells`` where it lies in none; for ``coarse``.
        cells: number of coarse cells.
    """

    land: Tensor | None = None
    gamma: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    cell: Tensor | None = None
    cells: int = 0

    def to(self, device: torch.device) -> LossFields:
        """The same on a device."""
        land, cell = (None if one is None else one.to(device) for one in (self.land, self.cell))
        return replace(self, land=land, cell=cell, gamma={name: (a.to(device), b.to(device)) for name, (a, b) in self.gamma.items()})


class Loss:
    """One training's loss.

    Attributes:
        name: of the loss of all targets that have none of their own.
        own: target -> loss.
        targets: names in order; needed where a target has a loss of its own, and for asymmetric_gamma.
        options: huber_delta, asymmetry, asymmetry_power, members, coarse; see LossConfig. What no loss in use reads may be left out.
        fields: what it knows of cells.
        balance: "likelihood" where the number is a logarithm or a log-likelihood, so that differences tell by which factor errors changed;
            else "none".
    """

    def __init__(
        self, name: str, balance: str, targets: Sequence[str], own: Mapping[str, str], options: Mapping[str, Any], fields: LossFields
    ) -> None:  # fmt: skip
        self.name = name
        self.own = dict(own)
        self.targets = list(targets)
        self.options = dict(options)
        self.fields = fields
        self._balance = balance
        self.balance = "none" if balance == "none" and not {name, *self.own.values()} & LOGARITHMIC else "likelihood"

    def totals(self, emulator: Emulator, inputs: Inputs, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of the loss over valid cells and days, and their numbers, for each target.

        Args:
            emulator, inputs: what is trained, and a batch of days. A network with noise draws its numbers from torch's global generator
                while it trains, and takes its fixed ones else.
            truth: (batch, target, Y, X) in working units; NaN marks cells that do not count (their gradient is 0).

        Returns:
            two tensors (target,), so that batches of unequal size average rightly.
        """
        return self._sums(emulator, inputs, truth, self._members(emulator, inputs))

    def judge(self, emulator: Emulator, inputs: Inputs, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``totals`` and the estimate (batch, target, Y, X) in working units, both from the same passes through the network."""
        members = self._members(emulator, inputs)
        return *self._sums(emulator, inputs, truth, members), emulator.mean(members, inputs)

    def weights(self, truth: Tensor) -> Tensor | None:
        """W of the asymmetric loss (days, k, Y, X) for the k targets that have it, from truth (days, target, Y, X); None: there are none.

        It depends on the truth alone: for days that stay in memory it is worked out once (Inputs.weights), for others in every step.
        """
        chosen = [(i, self.fields.gamma[name]) for i, name in enumerate(self.targets) if name in self.fields.gamma]
        power = self.options.get("asymmetry_power", 0.0)
        maps = [loss_terms.gamma_weight(truth[:, i].nan_to_num(0.0), *gamma, power) for i, gamma in chosen]
        return torch.stack(maps, 1) if maps else None

    def combine(self, total: Tensor, count: Tensor) -> Tensor:
        """One number from the sums of all targets, see combine()."""
        names = [self.own.get(target, self.name) for target in self.targets] if self.own else [self.name] * len(total)
        return combine(total, count, self._balance, [name in LOGARITHMIC for name in names])

    def _members(self, emulator: Emulator, inputs: Inputs) -> Tensor:
        """(members, batch, P, Y, X), in float32 at least."""
        noise = None
        if emulator.noise is not None and emulator.training:
            size = (self.options["members"], len(inputs), emulator.noise.shape[1])
            noise = torch.randn(size, device=emulator.device)
        members = emulator.members(inputs, noise)
        return members.float() if members.dtype.itemsize < _SINGLE else members

    def _sums(self, emulator: Emulator, inputs: Inputs, truth: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        scaled = emulator.to_loss_space(truth, inputs)
        valid = torch.isfinite(scaled)
        if self.fields.land is not None:
            valid = valid & self.fields.land
        weights = self.weights(truth) if inputs.weights is None else inputs.weights
        days = _Days(truth.where(valid, 0.0), scaled.where(valid, 0.0), members, weights)
        if self.own or self.name not in LOSSES:
            each = [self._cells(self.own.get(target, self.name), days, emulator, i) for i, target in enumerate(emulator.spec["targets"])]
            cells = torch.where(valid, torch.stack(each, 1), 0.0)
        else:
            cells = LOSSES[self.name](torch.where(valid, members[0] - days.scaled, 0.0))
        total, count = cells.sum((0, 2, 3)), valid.sum((0, 2, 3))
        return (total + self._coarse(emulator, days, valid) if self.options.get("coarse") else total), count

    def _cells(self, name: str, days: _Days, emulator: Emulator, i: int) -> Tensor:
        """Loss (batch, Y, X) of a target in every cell, the mean over members; any finite number in cells that do not count."""
        head = emulator.heads.each[i]
        channels, scaled, amount = head.of(days.members), days.scaled[:, i], days.truth[:, i]
        if name == "gaussian":
            return loss_terms.gaussian_nll(channels, scaled).mean(0)
        if name == "bernoulli_gamma":
            return loss_terms.bernoulli_gamma_nll(channels, amount, head).mean(0)
        values = channels.squeeze(-3)
        if name == "afcrps":
            return loss_terms.fair_crps(values, scaled)
        error = values - scaled
        if name == "huber":
            return loss_terms.huber(error, self.options["huber_delta"]).mean(0)
        if name == "asymmetric_gamma":
            assert days.weights is not None
            place = [target for target in self.targets if target in self.fields.gamma].index(self.targets[i])
            return loss_terms.asymmetric(error, days.weights[:, place], self.options["asymmetry"]).mean(0)
        return LOSSES[name](error).mean(0)

    def _coarse(self, emulator: Emulator, days: _Days, valid: Tensor) -> Tensor:
        """beta times the squared errors of coarse averages (target,), weighted so that they may be added to sums over fine cells."""
        assert self.fields.cell is not None
        errors, sizes = [], []
        for i, head in enumerate(emulator.heads.each):
            amounts = head.kind == "bernoulli_gamma"
            centre = expected_amount(head.of(days.members), head) if amounts else days.members[:, :, head.start]
            errors.append(centre.mean(0) - (days.truth if amounts else days.scaled)[:, i])
            std = emulator.target.std[i].nan_to_num(1.0)
            sizes.append(torch.ones_like(std) if amounts else std)
        error = torch.where(valid, torch.stack(errors, 1), 0.0)
        squares = loss_terms.coarse_squares(error, valid, torch.stack(sizes), self.fields.cell, self.fields.cells)
        return float(self.options["coarse"]) * squares


@dataclass(frozen=True)
class _Days:
    """A batch: truth in working units and in loss space (batch, target, Y, X), 0 where not valid, members (members, batch, P, Y, X) and
    the weights of the asymmetric loss."""

    truth: Tensor
    scaled: Tensor
    members: Tensor
    weights: Tensor | None


def make_loss(
    name: str, balance: str, *, targets: Sequence[str] = (), own: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None, fields: LossFields = LossFields(),
) -> Loss:  # fmt: skip
    """The loss of a training, built once; see Loss for the arguments. Losses that need cells get them by loss_fields.training_loss."""
    return Loss(name, balance, targets, own or {}, options or {}, fields)


def totals(loss: str, estimate: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of a loss of LOSSES over valid cells and days, and their numbers, for each target.

    Args:
        loss: key of LOSSES.
        estimate, truth: (batch, target, Y, X); NaN in the truth marks cells that do not count (their gradient is 0).

    Returns:
        two tensors (target,), so that batches of unequal size average rightly.
    """
    valid = torch.isfinite(truth)
    error = torch.where(valid, estimate - truth.nan_to_num(0.0), 0.0)
    return LOSSES[loss](error).sum((0, 2, 3)), valid.sum((0, 2, 3))


def combine(total: Tensor, count: Tensor, balance: str, straight: Sequence[bool] | None = None) -> Tensor:
    """One number from the sums of all targets.

    Args:
        total, count: (target,), see totals.
        balance: "none": the mean over all cells and targets, so that the target with the largest errors decides.
            "likelihood": the mean over targets of the log of each target's mean. That is the negative log-likelihood of Gaussian (mse)
            or Laplacian (mae) errors whose size is unknown for each target, at its best value (Kendall, Gal and Cipolla 2018, CVPR):
            an improvement by a tenth counts the same for every target.
        straight: targets whose loss is a log-likelihood already: with "likelihood" their mean enters as it is.
    """
    if balance == "none":
        return total.sum() / count.sum().clamp(min=1)
    seen = count > 0
    means = total / count.clamp(min=1)
    logs = means.clamp(min=_TINY).log()
    if straight is not None and any(straight):
        logs = torch.stack([(means if is_log else logs)[i] for i, is_log in enumerate(straight)])  # a mask would have to travel to a GPU
    return torch.where(seen, logs, 0.0).sum() / seen.sum().clamp(min=1)
