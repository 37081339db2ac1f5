"""The test days of a group in blocks of days, truth and all predictions together: for scores that are made of whole fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from downscale.evaluate.context import Context
from downscale.evaluate.members.paired import COLUMNS, Losses
from downscale.evaluate.metrics.fss import Fractions
from downscale.evaluate.selection import TimeTable
from downscale.evaluate.weather.error_collector import ErrorCollector
from downscale.pairs.store import PairGroup

BLOCK_BYTES = 96 * 2**20
Key = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class DayBlock:
    """Some consecutive test days.

    Attributes:
        days: their places on the test axis.
        truth: variable -> (time, y, x), working units.
        fields: (run, kind, variable) -> (time, y, x); of an ensemble its first member.
    """

    days: slice
    truth: dict[str, np.ndarray]
    fields: dict[Key, np.ndarray]


def test_table(context: Context, group: PairGroup) -> TimeTable:
    """The test days of a group."""
    return context.table(group, group.split("test"))


def day_blocks(context: Context, group: PairGroup, table: TimeTable) -> Iterator[DayBlock]:
    """The test days of a group in order of time, a bounded number of bytes at a time."""
    index, targets = group.split("test"), list(context.store.targets)
    with ExitStack() as stack:
        readers = {
            (one.run, one.kind, name): stack.enter_context(one.reader(name, table.days, table.calendar))
            for one in context.of_group(group)
            for name in one.variables
        }
        for days in bounded(len(index), (len(readers) + len(targets)) * context.region.area.size):
            truth = group.target(index[days])
            yield DayBlock(
                days,
                {name: truth[:, position] for position, name in enumerate(targets)},
                {key: reader.read(days=days) for key, reader in readers.items()},
            )


def bounded(n_days: int, values_a_day: int) -> Iterator[slice]:
    """Consecutive days whose float32 values take at most 96 MiB, one day at least."""
    step = max(1, BLOCK_BYTES // max(4 * values_a_day, 1))
    for start in range(0, n_days, step):
        yield slice(start, min(start + step, n_days))


def diagnose(context: Context) -> None:
    """FSS rows, and paired tests between the runs of each case."""
    options = context.options["fss"]
    context.extend("paired", COLUMNS, [])
    for group in context.store.groups.values():
        if not (group.has_truth and len(group.split("test")) and context.of_group(group)):
            continue
        table = test_table(context, group)
        fractions = Fractions(table, context.region.area, options["thresholds"], options["cells"])
        losses = Losses(table, context.region.area)
        errors = ErrorCollector(group.name, table, context.region.area)
        for block in day_blocks(context, group, table):
            fractions.add(block.days, block.truth, block.fields)
            losses.add(block.days, block.truth, block.fields)
            errors.add(block.days, block.truth, block.fields)
        errors.keep(context)
        context.rows += fractions.rows(group.name, context.region.name)
        context.extend("paired", COLUMNS, losses.rows(group.name))
