"""Blocks of rows kept on disk until the scores stand, so that an evaluation that was stopped or killed goes on where it was."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from downscale.errors import InputDataError, Stopped
from downscale.evaluate.blocks import AreaMean, FieldScores, GroupScores, Spread
from downscale.hpc.dask_pool import WorkersGoneError
from downscale.hpc.signals import StopFlag

log = logging.getLogger(__name__)
FOLDER = "scores.blocks"
_KINDS: dict[str, type] = {one.__name__: one for one in (AreaMean, FieldScores, GroupScores)}
_SAID = "said"


@contextmanager
def keeping(spread: Spread, folder: Path, recipe: str) -> Iterator[Spread]:
    """A Spread of blocks of rows that keeps each block in a folder; the folder goes when all is done, or when predictions or pairs are
    refused: mended ones have other blocks. Anything else (a full disk, say) leaves it for the next command.

    Args:
        spread: who does the blocks.
        folder: of the kept blocks.
        recipe: digest of all that decides the scores; blocks of another one are not used.

    Raises:
        Stopped: from the Spread, after a block: a signal came, or the job is about to end.
        WorkersGoneError: from the Spread; finished blocks are kept then, too.
    """

    def kept(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        files = {task[2].start: folder / f"{task[0].group.name}-{task[2].start}-{task[2].stop}.npz" for task in tasks}
        missing = []
        for task in tasks:
            block = read_block(files[task[2].start], recipe)
            if block is None:
                missing.append(task)
            else:
                yield task[2].start, block
        if len(missing) < len(tasks):
            log.info("%d of %d blocks were done before", len(tasks) - len(missing), len(tasks))
        for start, block in _until_told(spread(work, missing)):
            write_block(files[start], recipe, block)
            yield start, block

    try:
        yield kept
    except InputDataError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _until_told(blocks: Iterable[Any]) -> Iterator[Any]:
    """The same blocks; Stopped after the one in which a signal came, or where all workers ended because all were told to."""

    def stopped() -> Stopped:
        return Stopped(f"stopped by {stop.name}; finished blocks are kept", hint="run the same command again to go on")

    with StopFlag.in_job() as stop:
        try:
            for one in blocks:
                yield one
                if stop.set:
                    raise stopped()
        except WorkersGoneError:
            if stop.set:
                raise stopped() from None
            raise


def write_block(file: Path, recipe: str, block: GroupScores) -> None:
    """Keep a block: its arrays, and everything else as JSON."""
    arrays: dict[str, np.ndarray] = {}
    said = json.dumps({"recipe": recipe, "block": _plain(block, arrays)}).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        np.savez(stream, **{**arrays, _SAID: np.frombuffer(said, np.uint8)})  # type: ignore[arg-type]
    temporary.replace(file)


def read_block(file: Path, recipe: str) -> GroupScores | None:
    """A kept block of this recipe, the same to the bit; None where there is none that can be read."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            said = json.loads(stored[_SAID].tobytes())
            if said["recipe"] != recipe:
                return None
            block = _restored(said["block"], stored)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile):
        return None
    return block if isinstance(block, GroupScores) else None


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON: [kind, content]."""
    if isinstance(value, np.ndarray | np.generic):
        arrays[name := f"a{len(arrays)}"] = np.asarray(value)
        return ["array" if isinstance(value, np.ndarray) else "number", name]
    if value is None or isinstance(value, bool | int | float | str):
        return ["plain", value]
    if isinstance(value, dict):
        return ["dict", [[_plain(key, arrays), _plain(one, arrays)] for key, one in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_plain(one, arrays) for one in value]]
    if is_dataclass(value) and type(value).__name__ in _KINDS:
        return [type(value).__name__, {one.name: _plain(getattr(value, one.name), arrays) for one in fields(value)}]
    raise TypeError(f"a block holds a {type(value).__name__}, which cannot be kept")


def _restored(value: Any, arrays: Any) -> Any:
    """What _plain was given."""
    kind, content = value
    if kind == "plain":
        return content
    if kind in ("array", "number"):
        return arrays[content] if kind == "array" else arrays[content][()]
    if kind == "dict":
        return {_restored(key, arrays): _restored(one, arrays) for key, one in content}
    if kind in ("list", "tuple"):
        some = [_restored(one, arrays) for one in content]
        return some if kind == "list" else tuple(some)
    return _KINDS[kind](**{name: _restored(one, arrays) for name, one in content.items()})
