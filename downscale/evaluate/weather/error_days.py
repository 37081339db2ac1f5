"""Area means of all predictions of an evaluation day by day; collected while other diagnostics read the fields, or read here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from downscale.evaluate.context import Context
from downscale.evaluate.daily import bounded, day_blocks, test_table
from downscale.evaluate.predictions import Prediction, prediction_days
from downscale.evaluate.weather.error_collector import KEPT, ErrorCollector, ErrorDays, Key, area_means
from downscale.pairs.store import PairGroup


def error_days(context: Context) -> Mapping[Key, ErrorDays]:
    """Of all predictions and variables: on the test days where there is truth, else on the days of the prediction."""
    known: dict[str, dict[Key, ErrorDays]] = context.kept.setdefault(KEPT, {})
    for group in context.store.groups.values():
        if group.name in known:
            continue
        if group.has_truth and len(group.split("test")):
            _score(context, group)
        else:
            known[group.name] = {key: days for one in context.of_group(group) for key, days in _described(context, one).items()}
    return {key: days for found in known.values() for key, days in found.items()}


def _score(context: Context, group: PairGroup) -> None:
    table = test_table(context, group)
    collector = ErrorCollector(group.name, table, context.region.area)
    for block in day_blocks(context, group, table):
        collector.add(block.days, block.truth, block.fields)
    collector.keep(context)


def _described(context: Context, one: Prediction) -> dict[Key, ErrorDays]:
    days, calendar = prediction_days(one)
    nothing = np.full(len(days), np.nan)
    found = {}
    for name in one.variables:
        means = nothing.copy()
        with one.reader(name, days, calendar) as reader:
            for some in bounded(len(days), context.region.area.size):
                means[some] = area_means(reader.read(days=some), context.region.area)
        found[one.run, one.case, name] = ErrorDays(days, calendar, nothing, nothing, means, nothing)
    return found
