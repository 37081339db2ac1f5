"""Replay: days of the pairs that a run learned from, mixed into what it is adapted to, so that it does not forget them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from downscale.errors import ConfigError
from downscale.pairs.store import PairStore
from downscale.training.run import Run
from downscale.training.samples import Portion, split_portions

log = logging.getLogger(__name__)


def source_cases(source: Run) -> list[str]:
    """Pairs that a run learned from, each once, in their order: ``RCM_A/perfect``."""
    return list(dict.fromkeys(case.partition(" ")[0] for case in source.card["trained_on"]))


def with_replay(store: PairStore, source: Run, portions: Sequence[Portion], *, share: float, seed: int) -> list[Portion]:
    """The portions, followed by days of the source's pairs, so that these make up ``share`` of all days.

    The days are drawn at random, without repetition, from all training days of the pairs that the source learned from (experience
    replay, Rolnick et al. 2019, https://arxiv.org/abs/1811.11682). Where there are fewer than wanted, all are taken and the log says so.

    Args:
        store: with the source's pairs.
        source: the run to go on from.
        portions: days to adapt to; their pairs are not replayed.
        share: of the replayed days among all, at least 0 and below 1.
        seed: of the draw.

    Raises:
        ConfigError: the source learned from nothing else.
        InputDataError: the store lacks its pairs.
    """
    new = {portion.name for portion in portions}
    cases = [case for case in source_cases(source) if case not in new]
    if not cases:
        raise ConfigError(
            f"replay: '{source.path.name}' learned from no other pairs than those it is to be adapted to",
            where=", ".join(sorted(new)),
            hint="leave out replay",
        )
    old = split_portions(store, cases, "train")
    days, room = sum(len(portion.index) for portion in portions), sum(len(portion.index) for portion in old)
    wanted = round(share / (1.0 - share) * days)
    if wanted > room:
        log.info("replay: %d days wanted, %s has %d: all are taken", wanted, ", ".join(cases), room)
    chosen = np.sort(np.random.default_rng([seed, len(old), room]).permutation(room)[: min(wanted, room)])
    edges = np.cumsum([0, *(len(portion.index) for portion in old)])
    drawn = [
        Portion(portion.group, portion.kind, portion.index[chosen[(chosen >= start) & (chosen < stop)] - start])
        for portion, start, stop in zip(old, edges[:-1], edges[1:], strict=True)
    ]
    return [*portions, *(portion for portion in drawn if len(portion.index))]
