"""What the jobs of an experiment will take, from the rehearsal of check; kept until the config changes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from downscale.errors import InputDataError

log = logging.getLogger(__name__)
_FILE = "slurm/estimate.json"
_PREPARE_BYTES, _OTHER_BYTES, _PROGRAM_BYTES = 3_000_000_000, 8_000_000_000, 2_000_000_000
"""Memory of a process of prepare, of apply and evaluate, and of a program with its libraries."""
_WRITTEN_A_SECOND = 20_000_000
"""Bytes of predictions, before compression, that one process computes and writes, or reads and judges, at least."""
_GPU_GAIN = 5
_GENEROUS = 2


def estimates(cfg: Any, stages: Sequence[str], *, keep: bool, progress: Callable[[int, int, str], None]) -> dict[str, tuple[int, int]]:
    """Seconds and bytes of each stage, generously: a rehearsal, or what one said before of the same config.

    Args:
        cfg: the experiment.
        stages: that are to be submitted; where prepare is not among them, inputs that cannot be opened are no error.
        keep: write what the rehearsal says into the workspace.
        progress: of the rehearsal.
    """
    from downscale.config.load import digest

    recipe = digest({key: value for key, value in cfg.model_dump(mode="json").items() if key not in ("hpc", "evaluate")})
    path = cfg.workspace_path() / _FILE
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text())
        if found["recipe"] == recipe:
            return _of(cfg, found["facts"])
    try:
        facts = _rehearsed(cfg, progress)
    except InputDataError as error:
        if "prepare" in stages:
            raise
        log.warning("nothing is estimated, the inputs cannot be opened here: %s", error.message)
        return {}
    if keep:
        _keep(path, {"recipe": recipe, "facts": facts})
    return _of(cfg, facts)


def needed(cfg: Any, stages: Sequence[str]) -> bool:
    """Whether a job of these stages has no time or memory in the config."""
    jobs = cfg.hpc.jobs
    return any(stage not in jobs or jobs[stage].time is None or jobs[stage].memory is None for stage in stages)


def _rehearsed(cfg: Any, progress: Callable[[int, int, str], None]) -> dict[str, float]:
    from downscale.cli.check import silent_log
    from downscale.training.rehearse import rehearse

    log.info("rehearsing the experiment once, to estimate what the jobs take (--no-estimate: not at all)")
    with silent_log():
        found = rehearse(cfg, progress=progress)
    predicted = next(value for name, value in found.disk.items() if name.startswith("predictions"))
    return {
        "prepare": found.seconds["prepare"],
        "epoch": found.seconds["one epoch"],
        "memory": sum(found.memory.values()),
        "predicted": predicted,
    }


def _keep(path: Path, what: dict[str, Any]) -> None:
    from downscale.hpc.room import make_folder, require_writable

    require_writable(path.parent)
    make_folder(path.parent)
    path.write_text(json.dumps(what))


def _of(cfg: Any, facts: dict[str, float]) -> dict[str, tuple[int, int]]:
    """Stage -> seconds and bytes, for as many processes as the config gives it."""
    jobs = cfg.hpc.jobs
    parts = {name: jobs[name].array if name in jobs else 1 for name in ("prepare", "few-shot", "apply")}
    builders = (jobs["prepare"].cpus if "prepare" in jobs else None) or 4
    faster = {name: _GPU_GAIN if name in jobs and jobs[name].gpus else 1 for name in ("train", "few-shot")}
    learning = facts["epoch"] * cfg.train.epochs
    memory = int(_GENEROUS * facts["memory"]) + _PROGRAM_BYTES
    runs = max(1, len(cfg.train.seeds)) + len(cfg.train.baselines)
    written = runs * facts["predicted"] / _WRITTEN_A_SECOND
    seconds = {
        "prepare": facts["prepare"] / parts["prepare"],
        "train": learning / faster["train"],
        "few-shot": 10 * learning / faster["few-shot"] / parts["few-shot"],
        "apply": written / parts["apply"],
        "evaluate": written,
    }
    held = {"prepare": builders * _PREPARE_BYTES, "train": memory, "few-shot": memory}
    return {stage: (600 + int(_GENEROUS * took), held.get(stage, _OTHER_BYTES)) for stage, took in seconds.items()}
