"""The grid of a few-shot learning curve: methods x years x draws x seeds, each cell trained, judged and kept in a JSON of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from downscale.apply.cells import Bench, Cell, emulate, learn, plan_cell
from downscale.apply.share import FIRST_LOOK_SECONDS, LOOK_SECONDS
from downscale.config.load import differences
from downscale.config.schema import ExperimentConfig, FewShotConfig
from downscale.errors import ConfigError, InputDataError, OutputExistsError, Stopped
from downscale.hpc.locks import LockHeldError, clear_dead, folder_lock
from downscale.hpc.paths import refuse_links, refuse_links_inside
from downscale.hpc.signals import StopFlag
from downscale.pairs.build import STORE_NAME
from downscale.pairs.store import PairStore
from downscale.training.adaptation import has_batch_norm, methods_of
from downscale.training.assemble import resolve_device
from downscale.training.checkpoint import write_json
from downscale.training.plan import Plan, tag
from downscale.training.replay import source_cases
from downscale.training.run import Run, find_run, load_run
from downscale.training.shots import count_draws

log = logging.getLogger(__name__)
FOLDER = "few_shot"
LABEL_FREE = ("zero_shot", "gcm_align", "adabn")
ADAPTED = ("full", "head", "film_norm", "input_adapter", "calibration", "replay")
FRESH = ("scratch", "ridge")
METHODS = (*LABEL_FREE, *ADAPTED, *FRESH)
_ONE_SEED = (*LABEL_FREE, "calibration", "ridge")
"""Closed forms: no seed enters them."""
Scorer = Callable[[np.ndarray], Mapping[str, Mapping[str, float]]]
ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Grid:
    """What is asked for.

    Attributes:
        shots: numbers of whole years; 0 stands for the methods that need no truth.
        draws, seeds: how many of each.
        methods: names; empty: all that there are for the run.
    """

    shots: Sequence[int]
    draws: int = 1
    seeds: int = 1
    methods: Sequence[str] = ()

    def cells(self, methods: Sequence[str], first_seed: int, choices: Callable[[int], int]) -> list[Cell]:
        """All cells in the order of work: few years first. ``choices`` says how many different draws a number of years has at most."""
        found = []
        for shots in sorted({0, *self.shots}):
            for method in methods:
                if (method in LABEL_FREE) == (shots == 0):
                    draws = min(self.draws, choices(shots)) if shots else 1
                    seeds = 1 if method in _ONE_SEED else self.seeds
                    found += [Cell(method, shots, draw, first_seed + seed) for draw in range(draws) for seed in range(seeds)]
        return found


def run_grid(
    cfg: ExperimentConfig,
    grid: Grid,
    *,
    source_run: str | Path,
    scorer: Callable[[PairStore, str], Scorer],
    device: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    force_unlock: bool = False,
    wait: bool = True,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Train and judge every cell that is not there yet, into ``WORKSPACE/few_shot/RUN-PAIRS/cells``.

    Any number of processes share a grid: whoever makes the lock file of a cell first does it.

    Every cell is judged in memory on the test days of the pairs of ``few_shot.on``, and on those of the first pairs that the source
    learned from, to see what it forgets. Zero-shot is always among them.

    Args:
        cfg: the experiment; ``few_shot`` gives the pairs and the settings of the adaptation, ``train`` those of training from scratch.
        grid: what to do.
        source_run: name or path of the run to go on from.
        scorer: makes, from the store and a group's name, a function of fields (time, target, y, x) on its test days.
        device: "auto", "cpu" or "cuda".
        overwrite: do cells of another recipe anew.
        dry_run: list the cells, write nothing.
        force_unlock: take over locks, whatever they say.
        wait: stay until the cells that others have claimed are done too, and do them should the others die.
        progress: called with (cells done, cells, name).

    Returns:
        ``artefact`` (the folder) and ``cells``: a dict for each with method, shots, draw, seed, years, scores, source_scores,
        parameters (that moved), seconds (of adapting), recipe. Without ``wait`` only those that are done, and ``left``: how many are not.

    Raises:
        ConfigError: the config or the run does not allow a method, or there are fewer whole years than asked for.
        OutputExistsError: a cell of another recipe is there.
        Stopped: a signal came, or the job is about to end; finished cells are kept, and the one at work goes on from its checkpoint.
    """
    store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
    source = load_run(find_run(cfg.workspace_path(), source_run), device="cpu")
    bench = _bench(cfg, store, source, device)
    methods = _methods(grid, bench)
    days = bench.target.days[bench.target.split("train")]
    cells = grid.cells(methods, cfg.train.seed, lambda shots: max(1, count_draws(days, shots, cfg.split.year_starts)))
    folder = cfg.workspace_path() / FOLDER / f"{source.path.name}-{tag([bench.case])}"
    plans = {cell: plan_cell(bench, cell) for cell in cells}
    todo = [cell for cell in cells if _kept(folder, cell, plans[cell].recipe, overwrite=overwrite) is None]
    if dry_run:
        return {"artefact": None, "would write": str(folder), "cells": [cell.name for cell in cells], "to do": len(todo)}
    refuse_links(folder, below=cfg.workspace_path())
    refuse_links_inside(folder)
    if force_unlock:
        for cell in cells:
            (folder / _lock(cell)).unlink(missing_ok=True)
    with StopFlag.in_job(cfg.train.margin_seconds) as stop:
        judges = {name: scorer(store, name) for name in {bench.target.name, *bench.source_group}} if todo else {}

        def do(cell: Cell, number: int) -> None:
            if progress:
                progress(number, len(cells), cell.name)
            _keep(folder, cell, _judged(bench, cell, plans[cell], folder / "state" / cell.name, judges, stop))

        left = _share(folder, plans, do, stop, overwrite=overwrite, wait=wait)
    if not left:
        with contextlib.suppress(OSError):
            (folder / "state").rmdir()
    for cell in cells:
        clear_dead(folder / _lock(cell))
    kept = [found for cell in cells if (found := _kept(folder, cell, plans[cell].recipe, overwrite=False)) is not None]
    return {"artefact": folder, "cells": kept, **({"left": left} if left else {})}


def _share(
    folder: Path, plans: Mapping[Cell, Plan], do: Callable[[Cell, int], None], stop: StopFlag, *, overwrite: bool, wait: bool
) -> int:
    """Do the cells that are not done yet and nobody else is doing; the number of those that others have still in work."""
    patience = FIRST_LOOK_SECONDS
    left = list(plans)
    while True:
        held: list[Cell] = []
        for cell in left:
            if stop.set:
                raise Stopped(f"stopped by {stop.name}; finished cells are kept", where=str(folder), hint="run the same command again")
            if _kept(folder, cell, plans[cell].recipe, overwrite=overwrite) is not None:
                continue
            try:
                with folder_lock(folder, name=_lock(cell)):
                    if _kept(folder, cell, plans[cell].recipe, overwrite=overwrite) is None:
                        do(cell, len(plans) - len(left) + left.index(cell) - len(held))
            except LockHeldError:
                held.append(cell)
        if not held or not wait:
            return len(held)
        patience = min(2 * patience, LOOK_SECONDS) if len(held) == len(left) else FIRST_LOOK_SECONDS
        left = held
        time.sleep(patience)


def _lock(cell: Cell) -> str:
    return f".{cell.name}.lock"


def _judged(bench: Bench, cell: Cell, plan: Plan, state: Path, judges: Mapping[str, Scorer], stop: StopFlag) -> dict[str, Any]:
    """What a cell's JSON says."""
    emulator, facts = learn(bench, cell, plan, state, stop)
    fields = emulate(bench, emulator, bench.case, align=cell.method == "gcm_align")
    found = {"scores": judges[bench.target.name](fields), "source_scores": None}
    if bench.source_case is not None and cell.method not in (*FRESH, "gcm_align"):
        found["source_scores"] = judges[bench.source_group[0]](emulate(bench, emulator, bench.source_case))
    return {**cell.facts, **facts, **found, "recipe": plan.recipe}


def _bench(cfg: ExperimentConfig, store: PairStore, source: Run, device: str) -> Bench:
    section: FewShotConfig | None = cfg.few_shot
    if section is None or len(section.on) != 1:
        raise ConfigError("few-shot needs one pair to adapt to", where="few_shot.on", hint="few_shot: {on: [NAME/imperfect]}")
    old = [case for case in source_cases(source) if case not in section.on and case.partition("/")[0] in store.groups]
    return Bench(cfg, section, store, source, resolve_device(device), old[0] if old else None)


def _methods(grid: Grid, bench: Bench) -> list[str]:
    """The methods of the grid, in the order of METHODS, zero-shot among them."""
    unknown = [name for name in grid.methods if name not in METHODS]
    if unknown:
        raise ConfigError(f"few-shot: there is no method '{unknown[0]}'", where="--methods", hint=f"use {', '.join(METHODS)}")
    there = {"zero_shot", *methods_of(bench.source.emulator), *FRESH}
    there |= {"adabn"} if has_batch_norm(bench.source.emulator) else set()
    there |= {"replay"} if bench.source_case is not None else set()
    there |= {"gcm_align"} if _alignable(bench, asked="gcm_align" in grid.methods) else set()
    missing = [name for name in grid.methods if name not in there]
    if missing:
        raise ConfigError(
            f"few-shot: method '{missing[0]}' does not exist for this run and these pairs",
            where=f"{bench.source.path.name}, {bench.case}",
            hint=f"use {', '.join(name for name in METHODS if name in there)}",
        )
    return [name for name in METHODS if name in there and (not grid.methods or name in grid.methods or name == "zero_shot")]


def _alignable(bench: Bench, *, asked: bool) -> bool:
    """Whether gcm_align has the days it needs; where it was asked for and has not, the reason is raised."""
    if bench.window is None:
        return False
    try:
        bench.aligned()
    except InputDataError as error:
        if asked:
            raise
        log.info("few-shot: gcm_align is left out: %s", error.message)
        return False
    return True


def _kept(folder: Path, cell: Cell, recipe: Mapping[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """A cell that is done with this recipe; None where there is none, it is damaged, or one of another recipe is to be replaced."""
    path = folder / "cells" / f"{cell.name}.json"
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        written, _ = found["recipe"], found["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        log.warning("%s is damaged: done anew", path)
        return None
    changed = differences(written, json.loads(json.dumps(recipe)))
    if changed and not overwrite:
        raise OutputExistsError(
            "a cell of another recipe is here",
            where=str(path),
            hint="--overwrite to do such cells anew, or another workspace; written -> wanted:",
            findings=changed,
        )
    return None if changed else found


def _keep(folder: Path, cell: Cell, facts: Mapping[str, Any]) -> None:
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    write_json(folder / "cells" / f"{cell.name}.json", dict(facts))
