"""Several commands that build one pair store at the same time: which shards are whose, and how they keep out of each other's way.

Each part holds a lock of its own in the workspace, and the command that builds alone holds ``.lock``. Whoever comes makes its own lock
first and then looks at the others', so that of two that exclude each other at least one steps back. What is made once, the store and its
arrays, is made under a third lock, which is held for seconds and waited for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downscale.errors import ConfigError
from downscale.hpc.locks import LockHeldError, clear_dead, folder_lock, holder

LOCK, SETUP = ".lock", ".parts.lock"
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Part:
    """One of several commands that build a store together.

    Attributes:
        number: from 1.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Of ``I/N``; ConfigError for anything else."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--part '{text}' is not I/N", hint="give which part this is, from 1, and how many there are: --part 1/8")
        return cls(int(match[1]), int(match[2]))

    @property
    def key(self) -> str:
        """Of its files."""
        return f"{self.number}-of-{self.of}"

    @property
    def lock(self) -> str:
        """Name of its lock file."""
        return f".part-{self.key}.lock"

    def own(self, shards: Sequence[tuple[Any, float]]) -> list[Any]:
        """Its stretch of the shards (key, weight): the parts have about the same weight, and neighbours, which read the same files, stay
        together. Every shard belongs to exactly one part."""
        total, at, mine = sum(weight for _, weight in shards), 0.0, []
        for key, weight in shards:
            if min(int((at + weight / 2) * self.of / (total or 1.0)), self.of - 1) == self.number - 1:
                mine.append(key)
            at += weight
        return mine


def parts_at_work(workspace: Path, *, but: Part | None = None) -> dict[str, str]:
    """Parts that somebody alive works on, ``I-of-N`` -> who, without one of them."""
    found = {path.name: holder(path) for path in sorted(workspace.glob(".part-*.lock")) if but is None or path.name != but.lock}
    return {name.removeprefix(".part-").removesuffix(".lock"): who for name, who in found.items() if who}


@contextmanager
def building(workspace: Path, part: Part | None, *, force: bool) -> Iterator[None]:
    """The right to build the store while the block runs: alone, or as a part among parts.

    Args:
        workspace: folder of the store.
        part: None: alone.
        force: take over locks, whatever they say.

    Raises:
        LockHeldError: somebody works who excludes this.
    """
    with folder_lock(workspace, force=force, name=part.lock if part is not None else LOCK):
        for path in _excluding(workspace, part):
            if force:
                path.unlink(missing_ok=True)
            elif who := holder(path):
                raise LockHeldError(
                    f"another process is writing here: {_name(path)}{who}",
                    where=str(workspace),
                    hint="wait for it; if you are sure that it is gone, run again with --force-unlock",
                )
            else:
                clear_dead(path)
        yield


def _excluding(workspace: Path, part: Part | None) -> list[Path]:
    """Locks of those who may not work at the same time."""
    parts = sorted(workspace.glob(".part-*.lock"))
    if part is None:
        return parts
    return [workspace / LOCK, *(path for path in parts if not path.name.endswith(f"-of-{part.of}.lock"))]


def _name(path: Path) -> str:
    return f"part {path.name.removeprefix('.part-').removesuffix('.lock')}, " if path.name != LOCK else ""


@contextmanager
def setting_up(workspace: Path) -> Iterator[None]:
    """One part at a time; the others wait."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(folder_lock(workspace, name=SETUP))
                break
            except LockHeldError:
                time.sleep(_LOOK_SECONDS)
        yield
