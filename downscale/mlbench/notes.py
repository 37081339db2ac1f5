"""Notes on the benchmark's files, each kind told once: its fourteen sources a domain have the same oddities."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
_ON_FILES = ("downscale.cf", "downscale.grid", "downscale.pairs")


class _Once(logging.Filter):
    """Drops a note on a source's files that another source had word for word. A note is ``SOURCE: words``."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, str] = {}
        self.dropped: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown; several handlers may ask."""
        if not record.name.startswith(_ON_FILES):
            return True
        text = record.getMessage()
        words = text.partition(": ")[2]
        if not words or self._seen.setdefault(words, text) == text:
            return True
        self.dropped.add(text)
        return False


@contextmanager
def each_once() -> Iterator[None]:
    """Show each kind of note once while the block runs; the pair store holds all of them."""
    once = _Once()
    handlers = [*logging.getLogger().handlers, *logging.getLogger("downscale").handlers]
    for handler in handlers:
        handler.addFilter(once)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(once)
    if once.dropped:
        log.info("%d notes on other sources say the same and are not shown; pairs.zarr holds them all", len(once.dropped))
