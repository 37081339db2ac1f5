"""The optimiser step: clipped, fused, and without any effect where loss or gradient is not finite; nothing in it waits for the device."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

_CLIP_EPS = 1e-6
"""As in torch.nn.utils.clip_grad_norm_."""

OPTIMISERS: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
"""AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101) and Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980);
with Adam the weight decay is added to the gradient."""


def make_optimiser(name: str, parameters: Collection[nn.Parameter], *, rate: float, decay: float) -> torch.optim.Adam:
    """A fused optimiser: one pass over weights, gradients and moments, on CPU and GPU.

    Args:
        name: key of OPTIMISERS.
        parameters: what it moves.
        rate, decay: learning rate and weight decay.
    """
    return OPTIMISERS[name](parameters, lr=rate, weight_decay=decay, fused=True)


def gradient_norm(parameters: Collection[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, a tensor without dimensions on the device."""
    gradients = [value.grad for value in parameters if value.grad is not None]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def guarded_step(optimiser: torch.optim.Adam, loss: Tensor, norm: Tensor, clip: float) -> Tensor:
    """Move the weights, or nothing at all where the loss or the norm is not finite; whether they moved, as a tensor on the device.

    The kernel divides the gradients by ``max(1, norm / clip)`` and leaves everything alone when ``found_inf`` is 1: so neither clipping
    nor the guard takes a pass of its own, and the host never learns here what happened.

    Args:
        optimiser: from make_optimiser.
        loss, norm: of the step, without dimensions.
        clip: largest norm; 0: no clipping.
    """
    good = torch.isfinite(loss.detach()) & torch.isfinite(norm)
    scale = ((norm + _CLIP_EPS) / (clip or math.inf)).clamp(min=1.0)
    optimiser.found_inf = (~good).float()  # type: ignore[attr-defined]
    optimiser.grad_scale = scale.float()  # type: ignore[attr-defined]
    optimiser.step()
    return good


def put_moments(optimiser: torch.optim.Adam, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
    """Give a parameter its moments back, in its own memory format: the fused kernel walks through both side by side."""
    state = optimiser.state[parameter]
    for key, value in moments.items():
        like = parameter if value.dim() else torch.zeros((), device=parameter.device)
        state[key] = torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)


def keep_running(running: Sequence[Tensor], before: Sequence[Tensor], good: Tensor) -> None:
    """Take back what the forward pass of a bad step did to batch norm's running statistics."""
    for value, old in zip(running, before, strict=True):
        value.copy_(torch.where(good, value, old))
