"""One signature for networks and baselines: raw inputs in, fields in working units out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from downscale.models.inputs import Inputs
from downscale.models.linear import Bilinear, Climatology, Ridge
from downscale.models.resunet import ResUNet
from downscale.models.transforms import InputTransform, TargetTransform


class Emulator(nn.Module):
    """A model with everything it needs between the coarse maps and the fine fields.

    Attributes:
        spec: the plain data it was built from (see registry.build).
        target: the loss space and back.
        inputs: scaling of what the network sees; None for the baselines, which scale by themselves.
        net: the network (None for ridge alone), a Climatology or a Bilinear.
        backbone: a frozen Ridge whose estimate the network corrects, or None.
    """

    def __init__(
        self, spec: dict[str, Any], target: TargetTransform, *, inputs: InputTransform | None = None, net: nn.Module | None = None,
        backbone: Ridge | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spec = spec
        self.target = target
        self.inputs = inputs
        self.net = net
        self.backbone = backbone

    def forward(self, inputs: Inputs) -> Tensor:
        """Fine fields (batch, target, Y, X) in working units; NaN in cells never valid in training; 0 at least where less is unphysical."""
        if isinstance(self.net, Bilinear):
            return torch.where(torch.isnan(self.target.mean), torch.nan, self.target.clipped(self.net(inputs)))
        return self.target.inverse(self.transformed(inputs))

    def transformed(self, inputs: Inputs) -> Tensor:
        """Fine fields (batch, target, Y, X) in loss space."""
        if isinstance(self.net, Bilinear):
            return self.target(self.net(inputs))
        if isinstance(self.net, Climatology):
            return self.net(inputs)
        base = self.backbone(inputs) if self.backbone is not None else None
        if self.net is None or self.inputs is None:
            assert base is not None
            return base
        correction = self.net(*self.inputs(inputs), base)
        return correction if base is None else base + correction

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
