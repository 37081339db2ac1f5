"""One signature for networks and baselines: raw inputs in, fields in working units out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from downscale.models.heads import Heads, draw_amount, expected_amount, gaussian
from downscale.models.inputs import Inputs
from downscale.models.kernel_ridge import KernelRidge
from downscale.models.linear import Bilinear, Climatology, Ridge
from downscale.models.resunet import ResUNet
from downscale.models.transforms import InputTransform, TargetTransform, detrend

MEAN_MEMBERS = 8
"""Members whose average is the estimate of a network with noise."""
_NODES = ((0.0, 0.45714285714285724), (1.154405394739968, 0.24012317860501268), (2.366759410734541, 0.03075712396758652),
          (3.750439717725742, 0.0005482688559722170))  # fmt: skip
"""Gauss-Hermite quadrature with 7 nodes for a standard normal variable: nodes, those below 0 left out, and their weights."""


class Emulator(nn.Module):
    """A model with everything it needs between the coarse maps and the fine fields.

    Attributes:
        spec: the plain data it was built from (see registry.build).
        target: the loss space and back.
        inputs: scaling of what the network sees; None for the baselines, which scale by themselves.
        net: the network (None for ridge alone), a Climatology or a Bilinear.
        backbone: a frozen Ridge whose estimate the network corrects, or None.
        heads: what the network's channels mean; single values where the spec has no ``heads``.
        noise: (8, n) the draws of the n random numbers with which the estimate is made; None for a network without noise. The numbers
            follow the auxiliary vector; in training they are drawn anew for each day and member.
    """

    noise: Tensor | None

    def __init__(
        self, spec: dict[str, Any], target: TargetTransform, *, inputs: InputTransform | None = None, net: nn.Module | None = None,
        backbone: Ridge | KernelRidge | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spec = spec
        self.target = target
        self.inputs = inputs
        self.net = net
        self.backbone = backbone
        self.heads = Heads(spec["targets"], spec.get("heads", {}))
        numbers = spec.get("noise", 0)
        fixed = torch.randn(MEAN_MEMBERS, numbers, generator=torch.Generator().manual_seed(numbers)) if numbers else None
        self.register_buffer("noise", fixed)
        if spec.get("detrend"):
            detrend(self.modules(), spec["scalars"].index(spec["detrend"]))

    def forward(self, inputs: Inputs) -> Tensor:
        """Mean fields (batch, target, Y, X) in working units; NaN in cells never valid in training; 0 at least where less is unphysical."""
        if isinstance(self.net, Bilinear):
            return torch.where(torch.isnan(self.target.mean), torch.nan, self.target.clipped(self.net(inputs)))
        return self.mean(self.members(inputs), inputs)

    def to_loss_space(self, truth: Tensor, inputs: Inputs) -> Tensor:
        """Fine fields (batch, target, Y, X) in working units to the space of the loss; NaN stays NaN."""
        return self.target(truth, inputs)

    def to_working(self, values: Tensor, inputs: Inputs) -> Tensor:
        """Fine fields (batch, target, Y, X) in loss space to working units; variables that cannot be negative are clipped at 0."""
        return self.target.inverse(values, inputs)

    def transformed(self, inputs: Inputs) -> Tensor:
        """Best single estimate (batch, target, Y, X) in loss space, see point()."""
        return self.point(self.members(inputs), inputs)

    def raw(self, inputs: Inputs, noise: Tensor | None = None) -> Tensor:
        """What net and backbone give: (batch, P, Y, X), the channels of all heads.

        Args:
            inputs: a batch of days.
            noise: (batch, n) random numbers for a network with noise; zeros when None.
        """
        if isinstance(self.net, Bilinear):
            return self.to_loss_space(self.net(inputs), inputs)
        if isinstance(self.net, Climatology):
            return self.net(inputs)
        base = self.backbone(inputs) if self.backbone is not None else None
        if self.net is None or self.inputs is None:
            assert base is not None
            return base
        maps, aux = self.inputs(inputs)
        correction = self.net(maps, self._with_noise(aux, noise), base)
        return correction if base is None else self.heads.on_top(correction, base)

    def features(self, inputs: Inputs) -> Tensor | None:
        """What the network makes of the days where it is narrowest (batch, features), without noise; None where it says no such place."""
        bottleneck = getattr(self.net, "bottleneck", None)
        if bottleneck is None or self.inputs is None:
            return None
        maps, aux = self.inputs(inputs)
        found: Tensor = bottleneck(maps, self._with_noise(aux, None))
        return found

    def members(self, inputs: Inputs, noise: Tensor | None = None) -> Tensor:
        """``raw`` of several members (members, batch, P, Y, X); of a network without noise there is one.

        Args:
            inputs: a batch of days.
            noise: (members, batch, n); the eight fixed draws, the same for all days, when None. They make the mean a function of the day.
        """
        if self.noise is None:
            return self.raw(inputs)[None]
        draws = self.noise[:, None].expand(-1, len(inputs), -1) if noise is None else noise
        return torch.stack([self.raw(inputs, one) for one in draws])

    def point(self, members: Tensor, inputs: Inputs) -> Tensor:
        """Best single estimate (batch, target, Y, X) in loss space from members (members, batch, P, Y, X).

        Single values and Gaussian means as they are, a Bernoulli-gamma distribution by its mean amount; averaged over members.
        """
        if self.heads.points:
            return _average(members)
        fields = _average(torch.stack([members[:, :, head.start] for head in self.heads.each], 2))
        if any(head.kind == "bernoulli_gamma" for head in self.heads.each):
            scaled = self.to_loss_space(self.mean(members, inputs), inputs)
            chosen = [scaled if head.kind == "bernoulli_gamma" else fields for head in self.heads.each]
            fields = torch.stack([one[:, i] for i, one in enumerate(chosen)], 1)
        return fields

    def mean(self, members: Tensor, inputs: Inputs) -> Tensor:
        """Expected fields (batch, target, Y, X) in working units from members (members, batch, P, Y, X).

        The mean of a Gaussian in a bent or clipped space is an integral over it (Gauss-Hermite quadrature), not the bent mean.
        """
        return _average(torch.stack([self._expected(one, inputs) for one in members]))

    def sample(self, inputs: Inputs, members: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws (members, batch, target, Y, X) in working units.

        A network with noise draws whole fields; Gaussian and Bernoulli-gamma heads draw each cell by itself, so that their fields are
        rougher than weather. Without either, all members are the mean.

        Args:
            inputs: a batch of days.
            members: number of draws.
            generator: of the emulator's device; torch's own when None.
        """
        if self.heads.points and self.noise is None:
            return self(inputs).expand(members, -1, -1, -1, -1)
        if self.noise is None:
            raws = self.raw(inputs).expand(members, -1, -1, -1, -1)
        else:
            size = (members, len(inputs), self.noise.shape[1])
            raws = self.members(inputs, torch.randn(size, generator=generator, device=self.device))
        return torch.stack([self.drawn(one, inputs, generator) for one in raws])

    def drawn(self, raw: Tensor, inputs: Inputs, generator: torch.Generator | None) -> Tensor:
        """One draw (batch, target, Y, X) in working units from one member (batch, P, Y, X)."""
        if self.heads.points:
            return self.to_working(raw, inputs)
        centre, spread = self._gaussians(raw)
        normal = torch.randn(centre.shape, generator=generator, dtype=centre.dtype, device=centre.device)
        return self._with_amounts(self.to_working(centre + spread * normal, inputs), raw, generator, draw=True)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.target.mean.device

    def locate(self, index: Tensor, weight: Tensor, fixed: Tensor) -> None:
        """Give the parts that need it the way from the coarse to the fine grid.

        Args:
            index, weight: (Y * X, 4) coarse cells of each fine cell and their bilinear weights; weights 0 outside the coarse grid.
            fixed: (fields, Y, X) fixed fields for the decoder, of order one.
        """
        if isinstance(self.net, Bilinear):
            self.net.index.copy_(index)
            self.net.weight.copy_(weight)
        elif isinstance(self.net, ResUNet):
            self.net.locate(index, weight, fixed)

    def _with_noise(self, aux: Tensor, noise: Tensor | None) -> Tensor:
        """The auxiliary vector with the random numbers (batch, n) of a network with noise, zeros when None."""
        if self.noise is None:
            return aux
        return torch.cat([aux, aux.new_zeros(len(aux), self.noise.shape[1]) if noise is None else noise.to(aux)], 1)

    def _expected(self, raw: Tensor, inputs: Inputs) -> Tensor:
        """Expected fields (batch, target, Y, X) in working units of one member (batch, P, Y, X)."""
        if self.heads.points:
            return self.to_working(raw, inputs)
        centre, spread = self._gaussians(raw)
        if not any(self._is_bent(i) for i in range(len(self.heads.each))):
            return self._with_amounts(self.to_working(centre, inputs), raw, None)
        fields = _NODES[0][1] * self.to_working(centre, inputs)
        for node, weight in _NODES[1:]:
            ways = [self.to_working(centre + side * node * spread, inputs) for side in (-1, 1)]
            fields = fields + weight * (ways[0] + ways[1])
        return self._with_amounts(fields, raw, None)

    def _gaussians(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (batch, target, Y, X) in loss space; 0 and 0 for Bernoulli-gamma, no spread for single values."""
        centres, spreads = [], []
        for head in self.heads.each:
            channels = head.of(raw)
            nothing = torch.zeros_like(channels[:, 0])
            mean, variance = gaussian(channels) if head.kind == "gaussian" else (channels[:, 0], nothing)
            centres.append(nothing if head.kind == "bernoulli_gamma" else mean)
            spreads.append(variance.sqrt() if head.kind == "gaussian" else nothing)
        return torch.stack(centres, 1), torch.stack(spreads, 1)

    def _with_amounts(self, fields: Tensor, raw: Tensor, generator: torch.Generator | None, *, draw: bool = False) -> Tensor:
        """The fields with those of Bernoulli-gamma targets put in; NaN in cells never valid in training."""
        parts = list(fields.unbind(1))
        for i, head in enumerate(self.heads.each):
            if head.kind == "bernoulli_gamma":
                channels = head.of(raw)
                amount = draw_amount(channels, head, generator) if draw else expected_amount(channels, head)
                parts[i] = torch.where(torch.isnan(self.target.mean[i]), torch.nan, amount)
        return torch.stack(parts, 1)

    def _is_bent(self, i: int) -> bool:
        """Whether a Gaussian target is not a straight line away from working units."""
        bent = self.target.non_negative[i] or self.target.kinds[i] in ("log1p", "sqrt")
        return self.heads.each[i].kind == "gaussian" and bent


def _average(members: Tensor) -> Tensor:
    """Mean over members; one member as it is."""
    return members[0] if len(members) == 1 else members.mean(0)
