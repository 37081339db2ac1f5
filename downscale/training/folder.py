"""Who may write where: a run folder is fresh, to be resumed, complete, or another recipe's."""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from downscale import __version__
from downscale.config.load import differences
from downscale.errors import OutputExistsError
from downscale.hpc.paths import refuse_links, refuse_links_inside
from downscale.training.checkpoint import write_json, write_text
from downscale.training.run import CARD, DONE

log = logging.getLogger(__name__)
Standing = Literal["fresh", "resume", "complete"]
RECIPE = "state/recipe.json"


def standing(path: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> Standing:
    """What is to be done in a run folder; with ``overwrite`` an existing run is removed.

    Raises:
        OutputExistsError: a run of another recipe (the differences are listed), something that is not a run, or a link.
    """
    refuse_links(path, below=path.parent.parent)
    content = [entry.name for entry in path.iterdir() if entry.name != ".lock"] if path.is_dir() and not path.is_symlink() else []
    if not content and not path.is_symlink() and (path.is_dir() or not path.exists()):
        return "fresh"
    if path.is_symlink() or not _is_run(path):
        raise OutputExistsError(
            "something that is not a run stands where the run would go", where=str(path), hint="move it away, or give --name"
        )
    if overwrite:
        shutil.rmtree(path)
        return "fresh"
    refuse_links_inside(path)
    changed = differences(_recipe_of(path), json.loads(json.dumps(recipe)))
    if changed:
        raise OutputExistsError(
            "a run of another recipe has this name",
            where=str(path),
            hint="give --name for a new run, or --overwrite to replace it; written -> wanted:",
            findings=changed,
        )
    return "complete" if (path / DONE).exists() else "resume"


def write_start(path: Path, config: str, recipe: Mapping[str, Any], device: torch.device) -> None:
    """The files that stand from the first minute: config.yaml, environment.json and the recipe."""
    (path / "state").mkdir(parents=True, exist_ok=True)
    write_json(path / RECIPE, dict(recipe))
    write_text(path / "config.yaml", config)
    write_json(path / "environment.json", environment(device))


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, platform, device and threads."""
    return {
        "downscale": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }


def write_metrics(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """metrics.csv: a line per epoch; epoch 0 is the start."""
    if not history:
        return
    lines = [",".join(history[0])] + [",".join(str(value) for value in row.values()) for row in history]
    write_text(path / "metrics.csv", "\n".join(lines) + "\n")


def clear_state(path: Path) -> None:
    """Drop the checkpoints of a finished run; its recipe stays."""
    for file in (path / "state").glob("*"):
        if file.name != Path(RECIPE).name:
            file.unlink()


@contextmanager
def log_to(path: Path, *, rank: int = 0, world: int = 1) -> Iterator[None]:
    """Also write what the package logs to ``log.txt`` in a folder; where several processes train, process N writes ``log-N.txt``, and the
    first one merges them all in ``log-all.txt`` at its end."""
    package = logging.getLogger("downscale")
    handler = logging.FileHandler(path / (f"log-{rank}.txt" if rank else "log.txt"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(logging.INFO)
    before = package.level
    if package.getEffectiveLevel() > logging.INFO:
        package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before)
        handler.close()
        if not rank and world > 1:
            merge_logs(path)


def merge_logs(path: Path) -> None:
    """``log-all.txt``: the lines of all processes in the order of time, each after the number of its process."""
    lines: list[tuple[str, int, str]] = []
    for file in path.glob("log*.txt"):
        number, stamp = file.stem.removeprefix("log").removeprefix("-") or "0", ""
        for line in file.read_text(errors="replace").splitlines() if number.isdigit() else ():
            stamp = line[:23] if line[:2].isdigit() else stamp  # what has no time of its own belongs to the line above
            lines.append((stamp, int(number), line))
    write_text(path / "log-all.txt", "".join(f"{number}: {line}\n" for _, number, line in sorted(lines, key=lambda one: one[:2])))


def _is_run(path: Path) -> bool:
    return path.is_dir() and ((path / "config.yaml").is_file() or (path / CARD).is_file() or (path / "state").is_dir())


def _recipe_of(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / RECIPE).read_text()))
    except (OSError, ValueError):
        return {}
