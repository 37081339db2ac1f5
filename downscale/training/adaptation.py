"""Ways to adapt a trained emulator to other pairs: which weights move, and two closed forms that move none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from downscale.errors import ConfigError
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.training.samples import Holes, Portion, stream_samples

METHODS = ("full", "head", "film_norm", "input_adapter", "calibration")
"""full: all weights; head: the last layer; film_norm: normalisation layers and what the numbers of the day act on; input_adapter: first
layer and normalisation layers; calibration: no weight, see calibrate."""
_PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "resunet": {"head": ("head", "gain"), "numbers": ("embed", "film"), "stem": ("stem",)},
    "unet_doury": {"head": ("head",), "numbers": ("dense",), "stem": ("stem",)},
    "deepesd": {"head": ("dense",), "stem": ("maps.0",)},
}
"""Model -> part -> names of submodules. A network that is not here can be adapted by "full" and "calibration" alone."""
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
_PASSES, _CLOSE = 10, 1e-4
_FLAT = 1e-6
Days = Callable[[], Iterable[tuple[Inputs, Tensor]]]
"""Streams inputs and truth (batch, target, Y, X) in working units anew at each call."""


def trainable(emulator: Emulator, method: str) -> list[str] | None:
    """Names of the parameters that a method moves; None: all, or for calibration none that matters."""
    if method in ("full", "calibration"):
        return None
    parts = _PARTS.get(str(emulator.spec["model"]["name"]), {})
    wanted = {"head": ("head",), "film_norm": ("numbers",), "input_adapter": ("stem",)}[method]
    if any(part not in parts for part in wanted):
        return []
    pieces = tuple(piece for part in wanted for piece in parts[part])
    norms = _norm_parameters(emulator) if method in ("film_norm", "input_adapter") else set()
    names = [name for name, _ in emulator.named_parameters()]
    return [name for name in names if name in norms or any(f".{piece}." in f".{name}." for piece in pieces)]


def methods_of(emulator: Emulator) -> list[str]:
    """The methods that there are for an emulator, in the order of METHODS."""
    return [method for method in METHODS if trainable(emulator, method) != [] and not (method == "calibration" and _draws(emulator))]


def require_method(emulator: Emulator, method: str, *, name: str) -> None:
    """Nothing where an emulator can be adapted by a method.

    Args:
        emulator: of the run to go on from.
        method: one of METHODS.
        name: of the run, for the message.

    Raises:
        ConfigError: its network has no such part.
    """
    if method not in methods_of(emulator):
        raise ConfigError(
            f"method {method} does not exist for {emulator.spec['model']['name']}",
            where=name,
            hint=f"use {', '.join(methods_of(emulator))}",
        )


def make_ready(emulator: Emulator, method: str, portions: Sequence[Portion]) -> list[str] | None:
    """Ready an emulator for its training: calibration is done at once, layers that stand still are held.

    Args:
        emulator: as it begins, on its device.
        method: one of METHODS.
        portions: the training days.

    Returns:
        names of the parameters that the optimiser is to move; None: all.
    """
    if method == "calibration":

        def stream() -> Iterator[tuple[Inputs, Tensor]]:
            for inputs, truth in stream_samples(portions, Holes.of(emulator.spec)):
                yield inputs.to(emulator.device), truth.to(emulator.device)

        calibrate(emulator, stream)
    names = trainable(emulator, method)
    hold_norms(emulator, names)
    return names


def hold_norms(emulator: Emulator, names: Collection[str] | None) -> None:
    """Keep batch-normalisation layers whose weights do not move as they are in use: their running statistics neither change nor give
    way to those of the batch, even in training mode.

    Args:
        emulator: to be trained.
        names: of the parameters that move; None: all.
    """
    for path, layer in emulator.named_modules():
        if names is not None and isinstance(layer, nn.modules.batchnorm._BatchNorm) and f"{path}.weight" not in names:
            layer.register_forward_pre_hook(_stay)


def _stay(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    layer.training = False


def calibrate(emulator: Emulator, days: Days) -> None:
    """Match mean and standard deviation of each target cell to those of the truth, over some days, in loss space.

    z* = m_t + (z - m_e) s_t / s_e for each cell: the linear (variance) scaling of Teutschbein and Seibert (2012,
    https://doi.org/10.1016/j.jhydrol.2012.05.052), folded into the buffers of the target transform, so that every emulator can have it.
    Spread is matched, not regressed: where the weather of truth and inputs has drifted apart, a regression would smooth. Repeated until
    nothing changes any more, at most ten times, because values that cannot be negative are clipped afterwards. Cells that never change,
    in the estimate or in the truth, are shifted only; cells without truth stay as they are.

    Args:
        emulator: changed in place; not a probabilistic one, whose mean has to vary less than the truth.
        days: streamed anew for each pass.
    """
    emulator.eval()
    for _ in range(_PASSES):
        moments = _Moments()
        with torch.inference_mode():
            for inputs, truth in days():
                known = emulator.to_loss_space(truth, inputs).double()
                moments.add(emulator.to_loss_space(emulator(inputs), inputs).double(), known)
        scale, shift = moments.scaling()
        mean, std = emulator.target.mean.double(), emulator.target.std.double()
        emulator.target.mean.copy_(mean + shift * std)
        emulator.target.std.copy_(scale * std)
        if bool(((scale - 1).abs() < _CLOSE).all()) and bool((shift.abs() < _CLOSE).all()):
            return


class _Moments:
    """Sums over days of the estimates and truths (target, Y, X) of the cells that have both; relative to the first block's means."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []
        self.offset: tuple[Tensor, Tensor] | None = None

    def add(self, estimate: Tensor, truth: Tensor) -> None:
        valid = torch.isfinite(estimate) & torch.isfinite(truth)
        if self.offset is None:
            count = valid.sum(0).clamp(min=1)
            self.offset = tuple(torch.where(valid, field, 0.0).sum(0) / count for field in (estimate, truth))  # type: ignore[assignment]
        assert self.offset is not None
        e, t = (torch.where(valid, field - start, 0.0) for field, start in zip((estimate, truth), self.offset, strict=True))
        parts = [valid.double().sum(0), e.sum(0), t.sum(0), e.square().sum(0), t.square().sum(0)]
        self.sums = [a + b for a, b in zip(self.sums, parts, strict=True)] if self.sums else parts

    def scaling(self) -> tuple[Tensor, Tensor]:
        """scale and shift (target, Y, X) so that scale * estimate + shift has the moments of the truth."""
        assert self.offset is not None, "no day to calibrate on"
        n = self.sums[0].clamp(min=1)
        mean_e, mean_t = self.sums[1] / n, self.sums[2] / n
        std_e, std_t = ((self.sums[k] / n - mean.square()).clamp(min=0).sqrt() for k, mean in ((3, mean_e), (4, mean_t)))
        plain = (self.sums[0] < 2) | (std_e <= _FLAT) | (std_t <= _FLAT)
        scale = torch.where(plain, 1.0, std_t / std_e)
        shift = self.offset[1] + mean_t - scale * (self.offset[0] + mean_e)
        return scale, torch.where(self.sums[0] > 0, shift, 0.0)


def refresh_batch_norm(emulator: Emulator, batches: Iterable[Inputs]) -> bool:
    """Replace the running statistics of all batch-normalisation layers by those of other inputs; no truth is needed (AdaBN).

    Each statistic becomes the mean over the batches (Li et al. 2018, https://doi.org/10.1016/j.patcog.2018.03.005). Layers see what the
    layers before them give when these normalise by the batch.

    Args:
        emulator: changed in place.
        batches: of inputs, at least two days each.

    Returns:
        False, and nothing is changed, where the emulator has no such layer.
    """
    layers = [layer for layer in emulator.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return False
    emulator.eval()
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
        layer.train()
    with torch.no_grad():
        for inputs in batches:
            emulator.transformed(inputs)
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
        layer.eval()
    return True


def has_batch_norm(emulator: Emulator) -> bool:
    """Whether refresh_batch_norm can do something."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in emulator.modules())


def _norm_parameters(emulator: Emulator) -> set[str]:
    """Names of the weights and offsets of all normalisation layers."""
    layers = [path for path, layer in emulator.named_modules() if isinstance(layer, _NORMS)]
    return {f"{path}.{name}" for path in layers for name in ("weight", "bias")}


def _draws(emulator: Emulator) -> bool:
    """Whether the emulator gives distributions: the spread of its mean is not meant to be that of the truth."""
    return not emulator.heads.points or emulator.noise is not None
