"""What can go wrong while training, and what is then done: bad steps are skipped, explosions end it, a dead output is told."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from downscale.errors import DownscaleError, InputDataError
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs

if TYPE_CHECKING:
    from downscale.training.feed import TrainingDays

log = logging.getLogger(__name__)
BAD_STEPS = 3
"""Steps in a row whose loss or gradient is not finite, after which training stops."""
EXPLOSION = 1e3
"""A validation loss this many times the first one has exploded."""
_IMPLAUSIBLE = 1e4
"""Standard deviations from the training mean beyond which a number in the data, not the training, is at fault."""
_FLAT = 1e-6
_BATCH = 256


def finite(loss: float, norm: float) -> bool:
    """Whether a step counts; a step for which this is false has changed nothing."""
    return math.isfinite(loss) and math.isfinite(norm)


def bad_step(epoch: int, in_a_row: int, days: Sequence[str], loss: float, norm: float) -> None:
    """Say that a step was left out, with its days."""
    log.warning(
        "epoch %d: a step is left out, its loss (%g) or gradient (%g) is not finite (%d in a row; training stops after %d); days: %s",
        epoch, loss, norm, in_a_row, BAD_STEPS, "; ".join(by_case(days)),
    )  # fmt: skip


def too_many_bad_steps(epoch: int, days: Sequence[str], *, data: Sequence[str]) -> DownscaleError:
    """The error that ends a training.

    Args:
        epoch: in which it happened.
        days: of all the bad batches.
        data: those of them whose numbers are not finite or absurd: then the data are at fault.
    """
    where = f"epoch {epoch}, days {', '.join(sorted(data or days)[:3])} ..."
    message = f"{BAD_STEPS} steps in a row have a loss or gradient that is not finite; the last good checkpoint stays"
    if data:
        hint = "these days hold numbers that are not finite or absurdly large: mend them and prepare again"
        return InputDataError(message, where=where, hint=hint, findings=by_case(data))
    return DownscaleError(
        message, where=where, hint="lower train.learning_rate or train.clip, or look at these days", findings=by_case(days)
    )


def by_case(labels: Sequence[str]) -> list[str]:
    """Labels ``19950101 (CASE)`` as a line per case: ``CASE: 19950101 19950102``."""
    cases: dict[str, list[str]] = {}
    for label in sorted(labels):
        day, _, case = label.partition(" ")
        cases.setdefault(case.strip("()"), []).append(day)
    return [f"{case}: {' '.join(days)}" for case, days in cases.items()]


def absurd_days(emulator: Emulator, inputs: Inputs, truth: Tensor, labels: Sequence[str]) -> list[str]:
    """Labels of the days of a batch whose scaled numbers are not finite or beyond 10,000 standard deviations."""
    with torch.no_grad():
        maps, aux = emulator.inputs(inputs) if emulator.inputs is not None else (inputs.predictors, inputs.scalars)
        scaled = emulator.to_loss_space(truth, inputs).nan_to_num(0.0)
    absurd = ~(maps.abs() <= _IMPLAUSIBLE).flatten(1).all(1) | ~(aux.abs() <= _IMPLAUSIBLE).all(1)
    absurd |= ~(scaled.abs() <= _IMPLAUSIBLE).flatten(1).all(1) | torch.isinf(truth).flatten(1).any(1)
    return [label for label, bad in zip(labels, absurd.tolist(), strict=True) if bad]


def exploded(history: Sequence[Mapping[str, Any]], balance: str) -> bool:
    """Whether the last validation loss is not finite or more than 1,000 times the first (its log by as much for a logarithmic loss)."""
    if len(history) < 2:
        return False
    first, last = (float(row["validation_loss"]) for row in (history[0], history[-1]))
    if not math.isfinite(last):
        return True
    return last - first > math.log(EXPLOSION) if balance == "likelihood" else last > EXPLOSION * max(first, 0.0)


def verdict(history: Sequence[Mapping[str, Any]], best_epoch: int, balance: str) -> list[str]:
    """Warnings about a training that ended badly; the best weights are kept in any case."""
    if not history or not math.isfinite(float(history[best_epoch]["validation_loss"])):
        return ["no validation loss is finite: the weights are those of the start"]
    if exploded(history, balance):
        return [f"the validation loss exploded in epoch {history[-1]['epoch']}: stopped, the weights of epoch {best_epoch} are kept"]
    if best_epoch == 0 and len(history) > 1:
        return [f"none of {len(history) - 1} epochs was better than the start on validation days: the weights of the start are kept"]
    return []


def constant_targets(emulator: Emulator, days: TrainingDays) -> list[str]:
    """Names of the targets that the emulator estimates the same on all given days although the truth changes."""
    emulator.eval()
    fields, truths = _Extremes(), _Extremes()
    with torch.inference_mode():
        for inputs, truth in days.blocks(_BATCH, emulator.device):
            fields.add(emulator(inputs))
            truths.add(truth)
    names = []
    for i, name in enumerate(emulator.spec["targets"]):
        spread, size = (fields.high[i] - fields.low[i]).nan_to_num(0.0), fields.high[i].abs().nan_to_num(0.0)
        if bool((truths.high[i] > truths.low[i]).any()) and not bool((spread > _FLAT * size).any()):
            names.append(name)
    return names


class _Extremes:
    """Lowest and highest value of each cell (target, Y, X) over days; a cell without any is inf and -inf."""

    low: Tensor
    high: Tensor

    def add(self, fields: Tensor) -> None:
        low, high = fields.nan_to_num(nan=math.inf).amin(0), fields.nan_to_num(nan=-math.inf).amax(0)
        first = not hasattr(self, "low")
        self.low = low if first else torch.minimum(self.low, low)
        self.high = high if first else torch.maximum(self.high, high)
