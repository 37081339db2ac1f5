"""Models by name: plain data in, Emulator out. A new network is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from downscale.errors import EnvironmentMissingError
from downscale.models.emulator import Emulator
from downscale.models.linear import Bilinear, Climatology, Ridge
from downscale.models.resunet import ResUNet
from downscale.models.transforms import InputTransform, TargetTransform
from downscale.models.unet_doury import DouryUNet

BASELINES = ("bilinear", "climatology", "ridge")
Spec = dict[str, Any]


def build(spec: Spec) -> Emulator:
    """An emulator with fresh weights and neutral statistics.

    Args:
        spec: ``model`` {name, width, backbone, static, dropout}, ``channels``, ``targets`` and ``scalars`` (names), ``coarse_shape`` and
            ``fine_shape`` (y, x), ``normalise`` (map, gridpoint or channel), ``transforms`` {target: none, standardise, log1p or sqrt},
            ``non_negative`` (targets) and ``fixed`` (names of the fixed fields of the decoder); ``masked`` and ``dropped`` channels
            where there are any. Other keys are kept, not read.

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
    if name not in _NETWORKS:
        raise EnvironmentMissingError(
            f"this version has no model '{name}'", where=f"known: {', '.join((*BASELINES, *_NETWORKS))}", hint="update downscale-rcm"
        )
    masked, dropped = (channel_positions(spec, key) for key in ("masked", "dropped"))
    channels, coarse = len(spec["channels"]), _shape(spec, "coarse")
    inputs = InputTransform(spec["normalise"], channels, spec["scalars"], coarse, masked=masked, dropped=dropped)
    backbone = _ridge(spec) if _has_backbone(spec) else None
    return Emulator(spec, target, inputs=inputs, net=_NETWORKS[name](spec, inputs), backbone=backbone)


def channel_positions(spec: Spec, key: str) -> list[int]:
    """Positions of the ``masked`` or ``dropped`` channels of a spec."""
    return [spec["channels"].index(name) for name in spec.get(key, ())]


def _doury(spec: Spec, inputs: InputTransform) -> nn.Module:
    return DouryUNet(**_sizes(spec, inputs), zero_head=_has_backbone(spec))


def _resunet(spec: Spec, inputs: InputTransform) -> nn.Module:
    dropout = spec["model"].get("dropout", 0.0)
    return ResUNet(**_sizes(spec, inputs), fixed=len(spec["fixed"]), dropout=dropout, hint=_has_backbone(spec))


_NETWORKS: dict[str, Callable[[Spec, InputTransform], nn.Module]] = {"unet_doury": _doury, "resunet": _resunet}


def _ridge(spec: Spec) -> Ridge:
    masked, dropped = (channel_positions(spec, key) for key in ("masked", "dropped"))
    channels, targets = len(spec["channels"]), len(spec["targets"])
    return Ridge(channels, spec["scalars"], _shape(spec, "coarse"), targets, _shape(spec, "fine"), masked=masked, dropped=dropped)


def _has_backbone(spec: Spec) -> bool:
    return bool(spec["model"].get("backbone", "none") == "ridge")


def _sizes(spec: Spec, inputs: InputTransform) -> dict[str, Any]:
    return {
        "channels": inputs.maps,
        "aux_size": inputs.aux_size,
        "targets": len(spec["targets"]),
        "coarse": _shape(spec, "coarse"),
        "fine": _shape(spec, "fine"),
        "width": spec["model"]["width"],
    }


def _shape(spec: Spec, grid: str) -> tuple[int, int]:
    y, x = spec[f"{grid}_shape"]
    return int(y), int(x)
