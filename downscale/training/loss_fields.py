"""From config and pairs to the loss of a training: land, gamma distributions, and which coarse cell a fine cell lies in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downscale.config.losses import LossConfig
from downscale.errors import InputDataError
from downscale.pairs.gamma import fit_gamma
from downscale.pairs.store import PairStore
from downscale.training.feed import MemoryDays, TrainingDays
from downscale.training.losses import Loss, LossFields, make_loss
from downscale.training.samples import Portion, way_to_fine

_BLOCK_DAYS = 256
LAND_PERCENT = 50.0
"""Cells with at least this share of land count as land, as in evaluate."""


def training_loss(config: LossConfig, store: PairStore, portions: Sequence[Portion], device: torch.device | str = "cpu") -> Loss:
    """The loss of a training as the config says, with all that it needs to know of the cells.

    Args:
        config: section ``loss``.
        store: the pairs; its fixed fields hold the land fraction.
        portions: the training days: gamma distributions are fitted to all of them together, validation and test days never enter.
        device: of the emulator.

    Raises:
        InputDataError: land_only, and the pairs have no land fraction.
    """
    targets = list(store.targets)
    fields = LossFields(
        land=_land(store.static) if config.land_only else None,
        gamma={name: _gamma(portions, i) for i, name in enumerate(targets) if config.of(name) == "asymmetric_gamma"},
        **(_coarse_cells(store) if config.coarse else {}),
    )
    options = config.model_dump(exclude={"name", "balance", "targets"})
    return make_loss(
        config.name, config.balance, targets=targets, own=config.targets, options=options, fields=fields.to(torch.device(device))
    )


def work_out_weights(loss: Loss, *days: TrainingDays) -> None:
    """Work out once what the loss says about the truth of days that lie in memory or on the device; streamed days stay as they are."""
    for some in days:
        if isinstance(some, MemoryDays) and loss.fields.gamma:
            parts = [loss.weights(part) for part in some.samples.target.split(_BLOCK_DAYS)]
            weights = torch.cat([part for part in parts if part is not None])
            some.samples = replace(some.samples, inputs=replace(some.samples.inputs, weights=weights))


def loss_misfits(config: LossConfig, spec: Mapping[str, Any]) -> list[str]:
    """Why a run cannot go on with a loss: its network has other heads or another noise than the loss needs. Empty: it can."""
    wanted = config.outputs(spec["targets"])
    findings = []
    for target in spec["targets"]:
        had, needed = (outputs.get("heads", {}).get(target, {"kind": "point"}) for outputs in (spec, wanted))
        if dict(had) != dict(needed):
            findings.append(f"{target}: the run gives {_words(had)}, loss {config.of(target)} needs {_words(needed)}")
    if spec.get("noise", 0) != wanted.get("noise", 0):
        findings.append(f"noise: the run has {spec.get('noise', 0)} random numbers, the loss needs {wanted.get('noise', 0)}")
    return findings


def _words(head: Mapping[str, Any]) -> str:
    return f"{head['kind']} (wet from {head['wet_mm']:g} mm/day)" if "wet_mm" in head else str(head["kind"])


def _land(static: Mapping[str, np.ndarray]) -> Tensor:
    if "sftlf" not in static:
        raise InputDataError("loss.land_only: the pairs have no land fraction", hint="set static: [sftlf], and prepare again")
    return torch.from_numpy(np.asarray(static["sftlf"]) >= LAND_PERCENT)


@dataclass(frozen=True)
class _Days:
    """A portion as fit_gamma reads it: its days are the training days."""

    portion: Portion
    index: np.ndarray

    def target(self, index: np.ndarray) -> np.ndarray:
        return self.portion.group.target(index)

    def split(self, name: str) -> np.ndarray:
        return self.index


def _gamma(portions: Sequence[Portion], target: int) -> tuple[Tensor, Tensor]:
    """Shape and scale (Y, X), float32; NaN where a cell has no distribution. A day that comes by both kinds of pairs counts once."""
    groups: dict[str, _Days] = {}
    for portion in portions:
        before = groups.get(portion.group.name)
        index = portion.index if before is None else np.union1d(before.index, portion.index)
        groups[portion.group.name] = _Days(portion, index)
    found = fit_gamma(list(groups.values()), target)  # type: ignore[arg-type]
    return torch.from_numpy(found.shape.astype(np.float32)), torch.from_numpy(found.scale.astype(np.float32))


def _coarse_cells(store: PairStore) -> dict[str, Any]:
    """The coarse cell nearest to each fine cell: the one with the largest bilinear weight; none outside the coarse grid."""
    index, weight = way_to_fine(store)
    cells = int(np.prod(store.coarse.shape))
    nearest = index.gather(1, weight.argmax(1, keepdim=True))[:, 0]
    return {"cell": torch.where(weight.sum(1) > 0, nearest, cells).long(), "cells": cells}
