"""The files that a prediction was made of, as they are listed beside an archive's files and digested in the attributes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from downscale.cf.header import time_of
from downscale.config.load import digest
from downscale.training.checkpoint import sha256

log = logging.getLogger(__name__)
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class InputFiles:
    """Input files of one prediction.

    Attributes:
        entries: path, size, mtime, fingerprint and tracking_id of each, as they were when they were opened.
        hashed: whether the sha256 of each stands in the list; the files are then read once more.
    """

    entries: Sequence[Entry] = ()
    hashed: bool = False

    @classmethod
    def of_source(cls, entries: Sequence[Entry], source: str, *, hashed: bool = False) -> InputFiles:
        """Those of one source among the files of a pair group; all of them where the pairs do not say (earlier versions)."""
        return cls([entry for entry in entries if entry.get("source", source) == source], hashed)

    @cached_property
    def listed(self) -> list[dict[str, Any]]:
        """The list as it is written."""
        if not self.hashed:
            return [dict(entry) for entry in self.entries]
        log.info("sha256 of %d input files (%.2f GB)", len(self.entries), sum(entry["size"] for entry in self.entries) / 1e9)
        found = [{**entry, **_sum_of(entry)} for entry in self.entries]
        without = [entry["path"] for entry in found if "sha256" not in entry]
        if without:
            log.warning("%d input files are not there as they were read, and have no sha256 in the list: %s", len(without), without[0])
        return found

    def complete(self) -> None:
        """Make the list now, where a signal ends that at once: while a period is written, hashes would hold it up."""
        assert len(self.listed) == len(self.entries)

    @property
    def digest(self) -> str:
        """sha256 of the list: of its JSON with sorted keys."""
        return digest(self.listed)


def _sum_of(entry: Entry) -> dict[str, str]:
    """The sha256 of a file that is still the one that was read."""
    path = Path(entry.get("resolved", entry["path"]))
    try:
        stat = path.stat()
        same = stat.st_size == entry["size"] and entry.get("mtime") in (None, time_of(stat.st_mtime_ns))
        return {"sha256": _sha256(path, stat.st_size, stat.st_mtime_ns)} if same else {}
    except OSError:
        return {}


@lru_cache(maxsize=100_000)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Computed once for all predictions of a command; size and time tell a file that has been replaced."""
    del size, mtime_ns
    return sha256(path)
