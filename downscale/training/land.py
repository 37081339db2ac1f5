"""Which fine cells a network has outputs for, where its dense layer leaves out the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from downscale.errors import InputDataError
from downscale.models.deepesd import DeepESD
from downscale.models.emulator import Emulator
from downscale.pairs.normalise import Statistics
from downscale.pairs.store import PairStore

_LAND_PERCENT = 50.0


def land_cells(model: dict[str, Any], store: PairStore, statistics: Statistics) -> dict[str, int]:
    """``cells`` for the spec of a network with land_only: the number of cells it has outputs for. Nothing for other networks."""
    return {"cells": len(output_cells(store, statistics))} if model.get("land_only") else {}


def output_cells(store: PairStore, statistics: Statistics) -> np.ndarray:
    """Flat positions of the fine cells with truth on any training day and, where the pairs have static sftlf, with at least 50 % land.

    Raises:
        InputDataError: no cell, or every cell: then there is nothing to leave out.
    """
    valid = np.isfinite(statistics.target_mean).any(axis=0)
    if "sftlf" in store.static:
        valid &= store.static["sftlf"] >= _LAND_PERCENT
    if valid.all() or not valid.any():
        found = "every fine cell has" if valid.all() else "no fine cell has"
        raise InputDataError(
            f"model.land_only: {found} land and truth",
            where="land: static sftlf" if "sftlf" in store.static else "the pairs have no sftlf: every cell counts as land",
            hint="leave out model.land_only, or add static: [sftlf] and prepare again",
        )
    return np.flatnonzero(valid)


def choose_cells(emulator: Emulator, cells: np.ndarray) -> None:
    """Tell a network with land_only for which cells its outputs are: flat positions."""
    assert isinstance(emulator.net, DeepESD)
    emulator.net.choose(torch.from_numpy(cells))


def leave_out_other_cells(emulator: Emulator) -> None:
    """Let the cells that a network has no outputs for be missing in the targets, for the loss as for predictions."""
    if not isinstance(emulator.net, DeepESD) or not emulator.net.some:
        return
    other = torch.ones(emulator.target.mean[0].numel(), dtype=torch.bool)
    other[emulator.net.cells.cpu()] = False
    for buffer in (emulator.target.mean, emulator.target.std):
        buffer[:, other.view(buffer.shape[1:]).to(buffer.device)] = torch.nan
