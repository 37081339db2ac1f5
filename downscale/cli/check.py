"""The rehearsal of an experiment as a table."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from downscale.errors import Problems

_MARGIN = 1.2
_NO_SPACE = "{where}: {free} free, about {need} needed for pairs, one run and its predictions"


def check_experiment(
    config: Path, overrides: Sequence[str], *, checksums: Path | None, workers: int | None, progress: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Rehearse the experiment and say what it will take; InputDataError with all findings, checksums included."""
    from downscale.config.draft import CHECK
    from downscale.config.load import load_config
    from downscale.training.rehearse import Rehearsal, rehearse

    cfg = load_config(config, overrides)
    problems = Problems()
    found: list[Rehearsal] = []
    if checksums is not None:
        from downscale.cf.verify import verify

        with problems.caught():
            verify([path for source in cfg.sources.values() for path in source.files], checksums)
    with problems.caught(), silent_log():
        found.append(rehearse(cfg, workers=workers, progress=progress))
    problems.raise_any()
    marked = [number for number, line in enumerate(config.read_text(encoding="utf-8").splitlines(), 1) if CHECK in line]
    if marked:
        found[0].notes.insert(0, f"{config.name}: still marked CHECK by init: line {', '.join(map(str, marked))}")
    return _summary(cfg.workspace_path(), cfg.model.name, cfg.train.batch_size, cfg.train.epochs, found[0], verified=checksums is not None)


@contextmanager
def silent_log() -> Iterator[None]:
    """No log lines, except with -v: what is noted stands in the table."""
    log = logging.getLogger("downscale")
    before = log.level
    if before > logging.DEBUG:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _summary(workspace: Path, model: str, batch: int, epochs: int, found: Any, *, verified: bool) -> dict[str, Any]:
    warnings = [*found.warnings, *_disk_warnings(workspace, sum(found.disk.values())), *_memory_warnings(sum(found.memory.values()))]
    days, loss = found.tried
    return {
        "artefact": None,
        "inputs": {"grids": found.grids, **{line.partition(": ")[0]: line.partition(": ")[2] for line in found.groups}},
        **({"checksums": "all files agree with the list"} if verified else {}),
        "training": {
            "days": ", ".join(f"{name} {count}" for name, count in found.split.items()),
            "model": f"{model}, {found.parameters:,} parameters",
            "one batch": f"{days} of {batch} days tried forward and backward on the CPU, loss {loss:.3f}",
            "steps": f"{found.steps:,} in at most {epochs} epochs",
            **found.adaptations,
        },
        "memory (training)": {name: size(count) for name, count in found.memory.items()} | {"in all": size(sum(found.memory.values()))},
        "disk": {name: size(count) for name, count in found.disk.items()} | {"workspace": f"{workspace}, {size(_free(workspace))} free"},
        "time on this CPU": {
            "prepare": f"at most about {span(found.seconds['prepare'])}",
            "one epoch": f"about {span(found.seconds['one epoch'])}",
            "training": f"at most about {span(found.seconds['one epoch'] * epochs)}{_device()}",
        },
        "notes": found.notes,
        "warnings": warnings,
        "result": "nothing stands in the way" if not warnings else f"works, with {len(warnings)} warning(s) above",
    }


def _disk_warnings(workspace: Path, need: int) -> list[str]:
    from downscale.hpc.doctor import is_writable

    warnings = [] if is_writable(workspace) else [f"{workspace}: results cannot be written here"]
    free = _free(workspace)
    if free < _MARGIN * need:
        warnings.append(_NO_SPACE.format(where=workspace, free=size(free), need=size(need)))
    return warnings


def _memory_warnings(need: int) -> list[str]:
    from downscale.hpc.doctor import memory

    free = memory()[0]
    return [f"training needs about {size(need)} of memory, {size(free)} are free here"] if need > 0.8 * free else []


def _free(workspace: Path) -> int:
    from downscale.hpc.doctor import nearest_folder

    return shutil.disk_usage(nearest_folder(workspace)).free


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"; train will use {torch.cuda.get_device_name(0)}, much faster"
    threads = torch.get_num_threads()
    return f" ({threads} thread{'s' * (threads > 1)}; no GPU here)"


def size(count: int) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.3g} TB"


def span(seconds: float) -> str:
    """Seconds in words."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):g}"
