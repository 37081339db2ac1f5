"""Models by name: plain data in, Emulator out. A new network is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from downscale.errors import EnvironmentMissingError
from downscale.models.deepesd import DeepESD
from downscale.models.emulator import Emulator
from downscale.models.heads import Heads
from downscale.models.kernel_ridge import KernelRidge
from downscale.models.linear import Bilinear, Climatology, Ridge
from downscale.models.resunet import Plan, ResUNet, preset
from downscale.models.transforms import InputTransform, TargetTransform
from downscale.models.unet_doury import DouryUNet

BASELINES = ("bilinear", "climatology", "ridge", "kernel_ridge")
Spec = dict[str, Any]


def build(spec: Spec) -> Emulator:
    """An emulator with fresh weights and neutral statistics.

    Args:
        spec: ``model`` {name and the options of the network, see ModelConfig}, ``channels``, ``targets`` and ``scalars`` (names),
            ``coarse_shape`` and ``fine_shape`` (y, x), ``normalise`` (map, gridpoint ...), ``transforms`` {target: none, standardise, log1p
            or sqrt}, ``non_negative`` (targets) and ``fixed`` (names of the fixed fields of the decoder). Where they apply: ``masked`` and
            ``dropped`` channels; ``detrend``, a forcing; ``days``, offsets of the input days; ``heads`` and ``noise``, see Emulator;
            ``cells``, number of fine cells of a network with land_only; ``kernel`` {days, components} of kernel_ridge. Other keys are
            kept, not read.

    Raises:
        EnvironmentMissingError: a model that this version does not know.
    """
    name = spec["model"]["name"]
    transforms = [spec["transforms"].get(target, "standardise") for target in spec["targets"]]
    target = TargetTransform(transforms, [target in spec["non_negative"] for target in spec["targets"]], _shape(spec, "fine"))
    if name == "bilinear":
        return Emulator(spec, target, net=Bilinear(_shape(spec, "coarse"), _shape(spec, "fine")))
    if name == "climatology":
        return Emulator(spec, target, net=Climatology(spec["scalars"], len(spec["targets"]), _shape(spec, "fine")))
    if name == "ridge":
        return Emulator(spec, target, backbone=_ridge(spec))
    if name == "kernel_ridge":
        return Emulator(spec, target, backbone=_kernel_ridge(spec))
    if name not in _NETWORKS:
        raise EnvironmentMissingError(
            f"this version has no model '{name}'", where=f"known: {', '.join((*BASELINES, *_NETWORKS))}", hint="update downscale-rcm"
        )
    masked, dropped = _holes(spec)
    channels, coarse = input_channels(spec), _shape(spec, "coarse")
    inputs = InputTransform(spec["normalise"], channels, spec["scalars"], coarse, masked=masked, dropped=dropped)
    backbone = _ridge(spec) if _has_backbone(spec) else None
    return Emulator(spec, target, inputs=inputs, net=_NETWORKS[name](spec, inputs), backbone=backbone)


def input_channels(spec: Spec) -> int:
    """Number of input maps: the channels of all input days, those of the first day first."""
    return len(spec["channels"]) * _days(spec)


def channel_positions(spec: Spec, key: str) -> list[int]:
    """Positions of the ``masked`` or ``dropped`` channels of a spec among the input maps of all days."""
    once = [spec["channels"].index(name) for name in spec.get(key, ())]
    return [day * len(spec["channels"]) + position for day in range(_days(spec)) for position in once]


def _doury(spec: Spec, inputs: InputTransform) -> nn.Module:
    model = spec["model"]
    rain = _rain(spec) if model.get("final_relu") else ()
    more = {"activation": model.get("activation_1d") == "relu", "pad": model.get("padding") == "replicate", "final_relu": rain}
    return DouryUNet(**_sizes(spec, inputs), width=model["width"], zero_head=_has_backbone(spec), **more)


def _deepesd(spec: Spec, inputs: InputTransform) -> nn.Module:
    model, sizes = spec["model"], _sizes(spec, inputs)
    sizes["aux_size"] *= bool(model.get("numbers") or spec.get("noise"))
    cells = spec.get("cells") if model.get("land_only") else None
    return DeepESD(**sizes, filters=model.get("filters", 1), cells=cells, zero_head=_has_backbone(spec))


def _resunet(spec: Spec, inputs: InputTransform) -> nn.Module:
    model = spec["model"]
    plan = preset(model["size"], attention=model.get("attention", False)) if model.get("size") else Plan.of(model["width"])
    dropout = model.get("dropout", 0.0)
    hint = len(spec["targets"]) * _has_backbone(spec)
    return ResUNet(**_sizes(spec, inputs), fixed=len(spec["fixed"]), plan=plan, dropout=dropout, hint=hint)


_NETWORKS: dict[str, Callable[[Spec, InputTransform], nn.Module]] = {"unet_doury": _doury, "deepesd": _deepesd, "resunet": _resunet}


def _ridge(spec: Spec) -> Ridge:
    masked, dropped = _holes(spec)
    return Ridge(*_linear_sizes(spec), masked=masked, dropped=dropped)


def _kernel_ridge(spec: Spec) -> KernelRidge:
    masked, dropped = _holes(spec)
    days, components = spec["kernel"]["days"], spec["kernel"]["components"]
    return KernelRidge(*_linear_sizes(spec), days=days, components=components, masked=masked, dropped=dropped)


def _linear_sizes(spec: Spec) -> tuple[int, list[str], tuple[int, int], int, tuple[int, int]]:
    return input_channels(spec), spec["scalars"], _shape(spec, "coarse"), len(spec["targets"]), _shape(spec, "fine")


def _holes(spec: Spec) -> tuple[list[int], list[int]]:
    return channel_positions(spec, "masked"), channel_positions(spec, "dropped")


def _heads(spec: Spec) -> Heads:
    return Heads(spec["targets"], spec.get("heads", {}))


def _rain(spec: Spec) -> list[bool]:
    """Output channel -> whether it is the single value of a target that cannot be negative."""
    rain = [False] * _heads(spec).channels
    for target, head in zip(spec["targets"], _heads(spec).each, strict=True):
        rain[head.start] = head.kind == "point" and target in spec["non_negative"]
    return rain


def _days(spec: Spec) -> int:
    return len(spec.get("days", (0,)))


def _has_backbone(spec: Spec) -> bool:
    return bool(spec["model"].get("backbone", "none") == "ridge")


def _sizes(spec: Spec, inputs: InputTransform) -> dict[str, Any]:
    return {
        "channels": inputs.maps,
        "aux_size": inputs.aux_size + spec.get("noise", 0),
        "targets": _heads(spec).channels,
        "coarse": _shape(spec, "coarse"),
        "fine": _shape(spec, "fine"),
    }


def _shape(spec: Spec, grid: str) -> tuple[int, int]:
    y, x = spec[f"{grid}_shape"]
    return int(y), int(x)
