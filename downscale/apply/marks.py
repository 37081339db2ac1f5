"""Names of what apply leaves beside its files, and how it is read: for whoever only looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MANIFEST = "prediction.json"
PARTS = "parts"
BLOCKS = ".blocks"
"""The computed blocks of an unfinished period, hidden: ``.blocks``, or ``.PERIOD.blocks``."""
FILES = ("files", "spread_files")
"""Keys of a record: the files of the fields, and of the spread of members, by variable and relative to the prediction's folder."""

BYTES = "bytes"
"""Key of a record: the size of each of its files."""
CLIMATE = "feature_files"
"""Key of a record: the files of sums over the network's features, relative to the prediction's folder."""


def read_json(path: Path) -> dict[str, Any] | None:
    """A record; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
