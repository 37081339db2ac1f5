"""The diagnostics beside the scores, in the order in which they are made; each adds its tables to the context."""

from __future__ import annotations

from collections.abc import Callable

from downscale.evaluate.context import Context

Diagnosis = Callable[[Context], None]
DIAGNOSES: tuple[tuple[str, Diagnosis], ...] = ()
"""Name shown while it runs, and the function. Later ones may read what earlier ones left in the context."""
