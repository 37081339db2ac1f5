"""Which predictors are compared with which, and the predictor shift of each such pair.

- A GCM and the RCMu of the run that it drove: the same weather, so what differs is inconsistency of the two models.
- Every GCM, and every other RCMu, and what emulators have learned from: what differs is climate and inconsistency together. Where a GCM has
  its RCMu, RCMu against the learned pairs is its climate alone.
- GCM and the GCM whose RCM run was learned from.
"""

from __future__ import annotations

import numpy as np

from downscale.evaluate.context import Context, cell_areas
from downscale.evaluate.transfer.shift import COLUMNS, PredictorSample, predictor_shift
from downscale.pairs.store import PairGroup

TABLE = "predictor_shift"
Side = tuple[PairGroup, str]


def diagnose(context: Context) -> None:
    """Add predictor_shift.csv: pairs of one run on its test days, day by day; others on the training days of both."""
    context.extend(TABLE, COLUMNS, [])
    area = cell_areas(context.store.coarse)
    for one, other in compared_pairs(context):
        samples = [sample(context, side, paired=one[0] is other[0]) for side in (one, other)]
        context.extend(TABLE, COLUMNS, predictor_shift(samples[0], samples[1], context.store.channels, area))


def learned_pairs(context: Context) -> list[Side]:
    """Pairs that ``train_on`` or an emulator of the workspace has learned from and that have training days."""
    names = [*context.train_on, *(pair for one in context.predictions if one.role == "emulator" for pair in one.trained_on)]
    groups, found = context.store.groups, []
    for pair in dict.fromkeys(names):
        name, _, kind = pair.partition("/")
        if name in groups and kind in groups[name].kinds and len(groups[name].split("train")):
            found.append((groups[name], kind))
    return found


def compared_pairs(context: Context) -> list[tuple[Side, Side]]:
    """(case, against): each pair once, and never the other way round as well."""
    groups, learned = context.store.groups.values(), learned_pairs(context)
    wanted: list[tuple[Side, Side]] = [((group, "imperfect"), (group, "perfect")) for group in groups if len(group.kinds) == 2]
    wanted += [((group, kind), other) for other in learned for group in groups for kind in reversed(group.kinds)]
    gcms = [group for group, _ in learned if "imperfect" in group.kinds]
    wanted += [((group, "imperfect"), (other, "imperfect")) for other in gcms for group in groups if "imperfect" in group.kinds]
    result: list[tuple[Side, Side]] = []
    seen: set[frozenset[str]] = set()
    for one, other in wanted:
        key = frozenset(f"{group.name}/{kind}" for group, kind in (one, other))
        if len(key) == 2 and key not in seen:
            seen.add(key)
            result.append((one, other))
    return result


def sample(context: Context, side: Side, *, paired: bool) -> PredictorSample:
    """Test days (paired) or training days of a run; all days of one that has none."""
    group, kind = side
    index = group.split("test" if paired else "train")
    index = index if len(index) else np.arange(len(group.days))
    return PredictorSample(group, kind, index, context.table(group, index))
