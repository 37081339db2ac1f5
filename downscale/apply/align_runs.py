"""Which predictions are aligned (``apply.align``), and to what."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from downscale.apply.adapt import AlignedGroup, Case, align, alignment_facts
from downscale.apply.refresh import Refresh
from downscale.config.schema import ExperimentConfig
from downscale.errors import InputDataError
from downscale.pairs.store import PairGroup, PairStore
from downscale.training.adaptation import has_batch_norm
from downscale.training.run import Run
from downscale.variables import lookup

log = logging.getLogger(__name__)
READS_NO_MAPS = ("bilinear", "climatology")
FITTED = "alignment.safetensors"
HOW_TO_READ = "read changes between periods, not absolute values"


@dataclass(frozen=True)
class Aligned:
    """How a run reads one source.

    Attributes:
        group: the pairs as the run shall read them.
        run: gives the run that shall read them; with AdaBN another one than was trained, made at the first call.
        facts: what the prediction's recipe says; None where nothing is aligned.
        attributes: for the files.
        fitted: gives what was fitted, by name.
        of_run: name of the run where it is the network's own statistics that were fitted.
    """

    group: Any
    run: Callable[[], Run]
    facts: dict[str, Any] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    fitted: Callable[[], dict[str, np.ndarray]] | None = None
    of_run: str = ""


def write_fitted(read: Sequence[Aligned], folder: Path) -> None:
    """Write what was fitted beside a prediction: ``alignment.safetensors``, with AdaBN one for each run; nothing where nothing was.

    Args:
        read: how each of the prediction's runs reads the source. What is fitted to fields is the same for all.
        folder: of the prediction. Several processes may write there: they write the same.
    """
    for position, one in enumerate(read):
        if one.fitted is None or (position and not one.of_run):
            continue
        name = f"alignment-{one.of_run}.safetensors" if len(read) > 1 and one.of_run else FITTED
        temporary = folder / f"{name}.{os.getpid()}.partial"
        temporary.write_bytes(save({key: np.ascontiguousarray(array) for key, array in one.fitted().items()}))
        temporary.replace(folder / name)
        for left in folder.glob(f"{name}.*.partial"):
            left.unlink(missing_ok=True)


def aligned(cfg: ExperimentConfig, store: PairStore, run: Run, source: tuple[PairGroup, str], days: np.ndarray) -> Aligned:
    """A pair group as a run shall read it, and what the prediction says about that.

    GCM fields are aligned with the predictors that the run has learned from (of a fine-tuned run: those of the last stage), or with the
    RCMu fields of the RCM that the GCM drives. The group comes back as it is where nothing is asked for, for RCMu fields, for pairs
    that the run has learned from, and for the baselines that read no maps. AdaBN leaves the group alone and changes the run, where it
    has batch normalisation.

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
    method, window = cfg.apply.align, (cfg.apply.align_window or (0, 0))
    first, last = window
    mine = f"{group.name}/{kind}" in learned or run.spec["model"]["name"] in READS_NO_MAPS
    if method == "none" or kind != "imperfect" or mine:
        return Aligned(group, lambda: run)
    text = "" if cfg.apply.align_to == "own" else _note(group.name, learned, refreshed=method == "adabn")
    note = {"downscale_alignment_note": text} if text else {}
    if method == "adabn":
        return _refreshed(store, run, source, (first, last), note)
    training = _own(group) if cfg.apply.align_to == "own" else _training(store, run, learned)
    positive = [lookup(channel.variable).non_negative for channel in run.channels]
    alignment = align(method, (first, last), source, training, positive, days)
    if note:
        log.warning("%s: %s", group.name, text)
    return Aligned(
        AlignedGroup(group, alignment),
        lambda: run,
        alignment_facts(method, (first, last), training, _digests(store, [source, *training])),
        {"downscale_alignment": alignment.words(), **note},
        alignment.arrays,
    )


def _note(name: str, learned: Sequence[str], *, refreshed: bool) -> str:
    """How fields may be read whose climate is not that of their source; "" where it is: the run has learned from this source's pairs only.

    Args:
        name: of the group.
        learned: the pairs that the run has learned from, NAME/perfect or NAME/imperfect.
        refreshed: the network takes the statistics of these fields (AdaBN), and the fields stay as they are.
    """
    if {case.partition("/")[0] for case in learned} == {name}:
        return ""
    words = {"perfect": "RCMu fields of", "imperfect": "driving fields of"}
    parts = (case.partition("/") for case in learned)
    training = f"the {' and the '.join(f'{words[kind]} {one}' for one, _, kind in parts)}"
    if refreshed:
        return (
            "the network reads these fields relative to their own statistics: what sets their climate apart from that of "
            f"{training} is lost in part, together with the inconsistency; {HOW_TO_READ}"
        )
    if name in {case.partition("/")[0] for case in learned}:
        return f"aligned with the pooled climate of {training}: this source's own climate is replaced in part; {HOW_TO_READ}"
    return f"aligned with the climate of {training}: this source's own climate is gone together with its inconsistency; {HOW_TO_READ}"


def _refreshed(store: PairStore, run: Run, source: tuple[PairGroup, str], window: tuple[int, int], note: dict[str, str]) -> Aligned:
    """AdaBN, where the run has batch normalisation."""
    group = source[0]
    if not has_batch_norm(run.emulator):
        log.warning("apply.align: adabn: %s has no batch normalisation: %s is read as it is", run.path.name, group.name)
        return Aligned(group, lambda: run)
    refresh = Refresh(run, source, window)
    facts = alignment_facts("adabn", window, [], _digests(store, [source]))
    return Aligned(group, refresh, facts, {"downscale_alignment": refresh.words(), **note}, refresh.arrays, run.path.name)


def _digests(store: PairStore, cases: list[Case]) -> list[str]:
    return [store.split_digest, *(str(one.attributes["digest"]) for one, _ in cases)]  # type: ignore[attr-defined]


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
