"""Batch normalisation of a network refreshed with the predictors of a GCM, without truth (AdaBN)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from downscale.apply.adapt import Case, within
from downscale.errors import InputDataError
from downscale.models.inputs import Inputs
from downscale.models.registry import build
from downscale.training.adaptation import refresh_batch_norm
from downscale.training.novelty import whole_days
from downscale.training.reading import Holes, Portion
from downscale.training.run import Run
from downscale.training.samples import as_inputs

FEWEST_DAYS = 100
"""Days in the window below which statistics are not replaced."""


@dataclass
class Refresh:
    """A run whose batch normalisation takes the statistics of a GCM's training days within a window; made at the first call.

    Attributes:
        run: as it was trained.
        source: the GCM.
        window: first and last year.
    """

    run: Run
    source: Case
    window: tuple[int, int]
    _made: Run | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        days = len(within(self.source[0], self.window))
        if days < FEWEST_DAYS:
            raise InputDataError(
                f"apply.align: adabn: {days} training days in the window {self.window[0]} to {self.window[1]}",
                where="/".join((self.source[0].name, self.source[1])),
                hint=f"choose an apply.align_window with {FEWEST_DAYS} training days at least, or apply.align: none",
            )

    def __call__(self) -> Run:
        """The run with the statistics of the GCM."""
        if self._made is None:
            run = self.run
            emulator = build(run.spec)
            emulator.load_state_dict(run.emulator.state_dict())
            emulator.to(run.device)
            refresh_batch_norm(emulator, self._batches())
            self._made = replace(run, emulator=emulator.eval())
        return self._made

    def arrays(self) -> dict[str, np.ndarray]:
        """Means and variances of all layers."""
        state = self().emulator.state_dict()
        return {name: value.cpu().numpy() for name, value in state.items() if name.endswith(("running_mean", "running_var"))}

    def words(self) -> str:
        """For attributes."""
        return (
            f"adabn: batch normalisation with the statistics of {self.source[0].name}/{self.source[1]}, "
            f"training days of {self.window[0]} to {self.window[1]}"
        )

    def _batches(self) -> Iterator[Inputs]:
        group, kind = self.source
        portion = Portion(group, kind, within(group, self.window))  # type: ignore[arg-type]
        for maps, scalars, days in whole_days([portion], Holes.of(self.run.spec)):
            if len(days) > 1:
                inputs = as_inputs(torch.from_numpy(maps), torch.from_numpy(scalars), days, len(self.run.targets))
                yield inputs.to(self.run.device)
