"""Files in, a commented config out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from downscale.errors import ConfigError, OutputExistsError

log = logging.getLogger(__name__)


def write_config(
    files: Sequence[str], output: Path, *, workers: int | None, overwrite: bool, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Survey the files and write the config; the summary lists the runs, and the lines that a person has to look at.

    Raises:
        OutputExistsError: the config is there already, before anything is read.
        InputDataError: bad files, or nothing to learn from.
    """
    from downscale.cf.catalogue import scan
    from downscale.cf.survey import survey
    from downscale.config.draft import check_lines, draft

    if output.is_dir():
        raise ConfigError("a folder cannot be the config", where=str(output), hint="give the name of a file with -o, e.g. -o config.yaml")
    if output.exists() and not overwrite:
        raise OutputExistsError("a file is there already", where=str(output), hint="give another name with -o, or --overwrite")
    runs, left_out = survey(scan(files, workers=workers, progress=progress))
    for line in left_out:
        log.warning("left out: %s", line)
    text = draft(runs, output.parent, written_by="downscale init", left_out=left_out)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(output)
    return {
        "artefact": output,
        "runs": [f"{run.name} ({run.role}): {run.words}" for run in runs],
        "look at": check_lines(text),
        "next": f"downscale check {output}",
    }
