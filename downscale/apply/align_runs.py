"""Which predictions are aligned (``apply.align``), and to what."""

from __future__ import annotations

from typing import Any

import numpy as np

from downscale.apply.adapt import AlignedGroup, Case, align, alignment_facts
from downscale.config.schema import ExperimentConfig
from downscale.errors import InputDataError
from downscale.pairs.store import PairGroup, PairStore
from downscale.training.run import Run
from downscale.variables import lookup

READS_NO_MAPS = ("bilinear", "climatology")


def aligned(
    cfg: ExperimentConfig, store: PairStore, run: Run, source: tuple[PairGroup, str], days: np.ndarray
) -> tuple[Any, dict[str, Any] | None]:
    """A pair group as a run shall read it, and what the prediction's recipe says about that.

    GCM fields are aligned with the predictors that the run has learned from (of a fine-tuned run: those of the last stage), or with the
    RCMu fields of the RCM that the GCM drives. The group comes back as it is, with None, where nothing is asked for, for RCMu fields, for
    pairs that the run has learned from, and for the baselines that read no maps.

    Args:
        cfg: its ``apply.align`` decides.
        store: the pairs of the workspace.
        run: to be applied.
        source: group and kind ("perfect" or "imperfect").
        days: those to be emulated, yyyymmdd.

    Raises:
        InputDataError: the training pairs of the run are not in the store, the GCM drives no RCM (``own``), or the window has too few days.
    """
    group, kind = source
    learned = list(run.card["recipe"].get("on", ()))
    first, last = cfg.apply.align_window or (0, 0)
    mine = f"{group.name}/{kind}" in learned or run.spec["model"]["name"] in READS_NO_MAPS
    if cfg.apply.align == "none" or kind != "imperfect" or mine:
        return group, None
    training = _own(group) if cfg.apply.align_to == "own" else _training(store, run, learned)
    positive = [lookup(channel.variable).non_negative for channel in run.channels]
    alignment = align(cfg.apply.align, (first, last), source, training, positive, days)
    digests = [store.split_digest, *(str(one.attributes["digest"]) for one, _ in (source, *training))]  # type: ignore[attr-defined]
    return AlignedGroup(group, alignment), alignment_facts(alignment, digests)


def _own(group: PairGroup) -> list[Case]:
    """The RCMu fields of the RCM that the GCM drives."""
    if "perfect" not in group.kinds:
        raise InputDataError(
            f"apply.align_to: own: '{group.name}' has no RCM run",
            where=f"it has: {', '.join(group.kinds)}",
            hint="set apply.align_to: training, or name the sources to apply to",
        )
    return [(group, "perfect")]


def _training(store: PairStore, run: Run, learned: list[str]) -> list[Case]:
    """The pairs of the run's recipe, if the store still has the same."""
    known = run.card["recipe"].get("pairs", {})
    found: list[Case] = []
    for case in learned:
        name, _, kind = case.partition("/")
        group = store.groups.get(name)
        if group is None or kind not in group.kinds or group.attributes["digest"] != known.get(case):
            raise InputDataError(
                f"apply.align: the pairs '{case}', which the run has learned from, are not in this workspace as they were",
                where=str(run.path),
                hint="apply the run in the workspace where it was trained, or set apply.align: none",
            )
        found.append((group, kind))
    return found
