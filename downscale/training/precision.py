"""How the network is computed: number format, memory format, compiled or not, by what the device can do."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from downscale.errors import EnvironmentMissingError
from downscale.models.emulator import Emulator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Precision:
    """What a network is computed in.

    Attributes:
        dtype: of matrix products and convolutions; the rest, the ridge backbone and every loss stay in float32.
        channels_last: whether the weights of convolutions lie with the channels last, which tensor cores want and CPUs are faster with too;
            on a CPU it changes the last bits of float32 and nothing else.
        compiled: whether torch.compile makes kernels for the network.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        """For the log, e.g. ``bfloat16, channels last``."""
        words = [str(self.dtype).removeprefix("torch."), "channels last" if self.channels_last else "", "compiled" if self.compiled else ""]
        return ", ".join(word for word in words if word)


def choose(wanted: str, device: torch.device, *, compiled: bool = False) -> Precision:
    """The precision on a device.

    Args:
        wanted: "auto" (bf16 on GPUs that have it, else float32), "float32" (on a GPU without TF32) or "bf16".
        device: where the network is.
        compiled: whether torch.compile is wanted.

    Raises:
        EnvironmentMissingError: the GPU has no bfloat16, or nothing is there to compile with.
    """
    cuda = device.type == "cuda"
    able = not cuda or _has_bf16(device)
    if wanted == "bf16" and not able:
        raise EnvironmentMissingError(
            "train.precision: bf16, and this GPU has no bfloat16",
            where=torch.cuda.get_device_name(device),
            hint="use train.precision: auto or float32, or a GPU of compute capability 8.0 or later",
        )
    if compiled:
        _require_compiler(device)
    low = wanted == "bf16" or (wanted == "auto" and cuda and able)
    return Precision(torch.bfloat16 if low else torch.float32, channels_last=True, compiled=compiled)


@contextmanager
def computed(emulator: Emulator, precision: Precision) -> Iterator[None]:
    """Inside, the emulator's network is computed as ``precision`` says. Names, number format and values of the weights stay.

    On a GPU convolutions choose the fastest algorithm for their sizes, and float32 is float32: no TF32.
    """
    net, device = emulator.net, emulator.device
    if not isinstance(net, nn.Module):
        yield
        return
    # PyTorch 2.13 on the CPU: the backward pass of GroupNorm crashes on channels-last features that need no gradient
    channels_last = precision.channels_last and (device.type != "cpu" or all(one.requires_grad for one in net.parameters()))
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision.dtype != torch.float32:
        net.forward = _in_low_precision(net.forward, device, precision.dtype)
    if precision.compiled:
        net.compile()
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=device.type == "cuda", allow_tf32=False):
            yield
    finally:
        net.__dict__.pop("forward", None)
        net._compiled_call_impl = None
        if channels_last:
            net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _in_low_precision(forward: Callable[..., Tensor], device: torch.device, dtype: torch.dtype) -> Callable[..., Tensor]:
    """The same network under autocast, its output float32 again. The scaling before it and the loss behind it are not touched."""

    def low(*tensors: Tensor | None) -> Tensor:
        with torch.autocast(device.type, dtype):
            return forward(*tensors).float()

    return low


def _has_bf16(device: torch.device) -> bool:
    """Whether the GPU computes in bfloat16 itself (compute capability 8.0 on)."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _require_compiler(device: torch.device) -> None:
    there = importlib.util.find_spec("triton") if device.type == "cuda" else shutil.which("g++") or shutil.which("clang++")
    if not there:
        missing = "Triton" if device.type == "cuda" else "a C++ compiler (g++ or clang++)"
        raise EnvironmentMissingError(f"train.compile needs {missing}", hint="install it, or leave train.compile out")
