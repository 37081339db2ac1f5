"""Which of the two forms of apply was meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from downscale.errors import ConfigError


def apply_either(
    what: Path,
    runs: Sequence[str],
    sources: Sequence[str],
    inputs: Sequence[Path],
    output: Path | None,
    forcings: Path | None,
    assume_units: Sequence[str],
    overrides: Sequence[str],
    **options: Any,
) -> dict[str, Any]:
    """A run folder with --input and -o, or a config with --run and --source; ConfigError for a mixture."""
    from downscale.apply.stage import apply_files, apply_run
    from downscale.config.load import load_config

    if what.is_dir():
        if runs or sources or overrides:
            raise ConfigError(
                "--run, --source and --set go with a config, not with a run folder",
                where=str(what),
                hint="downscale apply RUN --input FILE... -o DIR",
            )
        if not inputs or output is None:
            raise ConfigError(
                "a run folder needs --input FILE... and -o DIR", where=str(what), hint="downscale apply RUN --input FILE... -o DIR"
            )
        return apply_files(what, inputs, output, forcings=forcings, assume_units=_pairs(assume_units), **options)
    if inputs or output or forcings or assume_units:
        raise ConfigError(
            "--input, -o, --forcings and --assume-units go with a run folder, not with a config",
            where=str(what),
            hint="downscale apply CONFIG [--run RUN] [--source NAME]",
        )
    return apply_run(load_config(what, overrides), runs=runs, sources=sources, **options)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    for text in texts:
        if not text.partition("=")[2]:
            raise ConfigError(f"--assume-units '{text}' is not of the form VAR=UNITS", hint="e.g. --assume-units pr=mm/day")
    return dict((name, units) for name, _, units in (text.partition("=") for text in texts))
