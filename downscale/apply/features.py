"""The climate of a prediction where its network is narrowest, beside its files: for the Frechet distance of evaluate."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from downscale.apply.trust import Novelty

NAME = "features"


def write_features(novelty: Novelty | None, folder: Path, period: str) -> list[str]:
    """Write the sums over the days of one period, with those of the run's training and held-out days.

    Args:
        novelty: what has scored the days; None for a run without.
        folder: of the prediction.
        period: of the days, "" for the only one.

    Returns:
        the file's name, for the record of the period; nothing where the run compares no features.
    """
    found = novelty.features() if novelty is not None else None
    if found is None:
        return []
    space, days = found
    tensors = days.tensors("days") | space.training.tensors("training") | space.held_out.tensors("held_out")
    path = folder / (f"{NAME}_{period}.safetensors" if period else f"{NAME}.safetensors")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    temporary.write_bytes(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))
    temporary.replace(path)
    for left in folder.glob(f"{path.name}.*.partial"):
        left.unlink(missing_ok=True)
    return [path.name]
