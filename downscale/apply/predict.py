"""The apply stage: a run and a feed in, one NetCDF file per variable out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from downscale import __version__
from downscale.apply.feed import Feed
from downscale.cf.write import FieldWriter
from downscale.config.load import differences, digest
from downscale.errors import OutputExistsError, Stopped
from downscale.hpc.locks import folder_lock
from downscale.hpc.paths import refuse_links, refuse_links_inside
from downscale.hpc.signals import StopFlag
from downscale.models.inputs import Inputs
from downscale.training.reading import Holes
from downscale.training.run import Run
from downscale.variables import lookup

log = logging.getLogger(__name__)
BATCH_DAYS = 64
MANIFEST = "prediction.json"
ProgressCallback = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Task:
    """One (run, input) pair: its output folder is complete when its prediction.json stands.

    Attributes:
        run: the emulator.
        feed: the input days.
        folder: where the files go.
        facts: what prediction.json and the files say about run and input (group, kind, trained_on ...).
        attributes: global attributes of the files.
        root: folder of results below which no link may lead away; None where the user named ``folder`` itself.
    """

    run: Run
    feed: Feed
    folder: Path
    facts: dict[str, Any]
    attributes: dict[str, str]
    root: Path | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the numbers of the prediction."""
        days = self.feed.days
        return {
            "model_id": self.run.model_id,
            "input": self.facts["input_digest"],
            "days": digest(days.tolist()),
            "variables": list(self.run.targets),
            "calendar": self.feed.calendar,
            **({"align": self.facts["align"]} if "align" in self.facts else {}),
        }


def run_tasks(
    tasks: Sequence[Task], *, block_days: int, compression: int, overwrite: bool, force_unlock: bool, progress: ProgressCallback | None
) -> list[str]:
    """Do what is not done yet.

    Returns:
        one line per task: folder and whether it was written or was complete already.

    Raises:
        OutputExistsError: a folder holds a prediction of another recipe, or foreign files, or is or holds a link.
        Stopped: a signal came; finished folders stay, the same command goes on.
    """
    todo = [task for task in tasks if not _complete(task, overwrite=overwrite)]
    for task in todo:
        if task.root is not None:
            refuse_links(task.folder, below=task.root)
        refuse_links_inside(task.folder)
    total, done = sum(len(task.feed.days) for task in todo), 0
    with StopFlag() as stop:
        for task in todo:
            with folder_lock(task.folder, force=force_unlock):
                for days in _write(task, block_days, compression):
                    done += days
                    if progress:
                        progress(done, total, task.folder.name)
                    if stop.set:
                        raise Stopped(
                            f"stopped by {stop.name}; finished predictions are kept",
                            where=str(task.folder),
                            hint="run the same command again to go on",
                        )
    return [f"{task.folder}: {'written' if task in todo else 'complete already'}, {len(task.feed.days)} days" for task in tasks]


def predict_blocks(run: Run, feed: Feed, block_days: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Emulate block by block.

    Yields:
        (days, fields): yyyymmdd (n,) and (n, V, Y, X) float32 in working units; a day on which a predictor is missing where the run
            has no mask for it is all NaN. For runs that read several days, one before or after that is not there is replaced, see
            read_windows; the log says how many.
    """
    holes, replaced = Holes.of(run.spec), 0
    for start in range(0, len(feed.days), block_days):
        stop = min(start + block_days, len(feed.days))
        windows, scalars, surface = feed.block(start, stop, holes)
        whole = windows.whole
        if not whole.all():
            missing = feed.days[start:stop][~whole]
            log.warning("%d day(s) with missing predictors are written as missing: %s", len(missing), ", ".join(map(str, missing[:20])))
        fields = np.full((stop - start, len(run.targets), *run.fine.shape), np.nan, np.float32)
        days = np.asarray(feed.days[start:stop]).astype(np.int64)
        fields[whole] = _emulate(run, windows.maps[whole], scalars[whole], surface[whole], days[whole])
        replaced += windows.replaced
        yield feed.days[start:stop], fields
    if replaced:
        log.info("%d days before or after are not there: the nearest one towards the day itself stood in", replaced)


def _emulate(run: Run, *arrays: np.ndarray) -> np.ndarray:
    """Every batch has the same number of days (the last one is filled up), so that a day's numbers never depend on its block."""
    n = len(arrays[0])
    fields = np.empty((n, len(run.targets), *run.fine.shape), np.float32)
    with torch.inference_mode():
        for start in range(0, n, BATCH_DAYS):
            stop = min(start + BATCH_DAYS, n)
            index = np.minimum(np.arange(start, start + BATCH_DAYS), stop - 1)
            inputs = Inputs(*(torch.from_numpy(array[index]) for array in arrays))
            fields[start:stop] = run.emulator(inputs.to(run.device)).cpu().numpy()[: stop - start]
    return fields


def _write(task: Task, block_days: int, compression: int) -> Iterator[int]:
    (task.folder / MANIFEST).unlink(missing_ok=True)
    coordinates = task.run.fine.to_dataset()
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                FieldWriter(
                    task.folder / f"{name}.nc",
                    lookup(name),
                    coordinates,
                    task.feed.calendar,
                    attributes=task.attributes,
                    compression=compression,
                )
            )
            for name in task.run.targets
        ]
        for days, fields in predict_blocks(task.run, task.feed, block_days):
            for position, writer in enumerate(writers):
                writer.append(days, fields[:, position])
            yield len(days)
    manifest = {
        **task.facts,
        "variables": list(task.run.targets),
        "recipe": task.recipe,
        "digest": digest(task.recipe),
        "downscale_version": __version__,
    }
    temporary = task.folder / f"{MANIFEST}.partial"
    temporary.write_text(json.dumps(manifest, indent=2, default=str) + "\n")
    temporary.replace(task.folder / MANIFEST)


def _complete(task: Task, *, overwrite: bool) -> bool:
    manifest = task.folder / MANIFEST
    if not manifest.exists():
        foreign = sorted(path.name for path in task.folder.glob("*.nc")) if task.folder.exists() else []
        foreign = [name for name in foreign if name.removesuffix(".nc") not in task.run.targets]
        if foreign and not overwrite:
            raise OutputExistsError(
                "the output folder holds other files", where=f"{task.folder}: {', '.join(foreign[:5])}", hint="choose an empty folder"
            )
        return False
    existing = json.loads(manifest.read_text())
    changed = differences(existing.get("recipe", {}), task.recipe)
    if not changed:
        return all((task.folder / f"{name}.nc").exists() for name in task.run.targets)
    if not overwrite:
        raise OutputExistsError(
            "a prediction of another recipe is here",
            where=str(task.folder),
            hint="choose another folder, or --overwrite; written -> wanted:",
            findings=changed,
        )
    return False
