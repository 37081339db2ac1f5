"""The page: read scores, draw, fill the template, publish."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2

from downscale import __version__
from downscale.config.schema import ExperimentConfig
from downscale.errors import OutputExistsError
from downscale.evaluate.scorecard import RECIPE
from downscale.report.few_shot import FOLDER as CURVES
from downscale.report.findings import Findings, read_findings
from downscale.report.sections import ProgressCallback, Section, make_sections
from downscale.report.verdict import verdict

log = logging.getLogger(__name__)
FOLDER, SCORES = "report", "scores"
_SOURCE = "drawn_from.json"


def make_report(cfg: ExperimentConfig, progress: ProgressCallback | None = None, *, config: str = "CONFIG") -> Path:
    """Draw WORKSPACE/report/index.html, its figures and their data from WORKSPACE/scores.

    Args:
        cfg: the experiment.
        progress: called with (done, total, note).
        config: the experiment's file as named in the commands on the page.

    Returns:
        path of the page; the folder is replaced as a whole.

    Raises:
        InputDataError: there are no scores.
        OutputExistsError: a link stands in the way.
    """
    workspace = cfg.workspace_path()
    findings = read_findings(workspace / SCORES)
    with page_folder(workspace / FOLDER) as partial:
        sections = make_sections(findings, partial / "data", progress or silent)
        (partial / "index.html").write_text(render(findings, sections, config), encoding="utf-8")
        (partial / _SOURCE).write_text(json.dumps(_drawn_from(workspace), indent=2) + "\n")
    page = workspace / FOLDER / "index.html"
    log.info("report: %s, %.1f MB", page, page.stat().st_size / 1e6)
    return page


def report_there(cfg: ExperimentConfig) -> Path | None:
    """The page, where it was drawn by this version from what lies in the workspace now."""
    workspace = cfg.workspace_path()
    page, source = workspace / FOLDER / "index.html", workspace / FOLDER / _SOURCE
    try:
        there = page.is_file() and json.loads(source.read_text()) == _drawn_from(workspace)
    except (OSError, ValueError):
        return None
    return page if there else None


def _drawn_from(workspace: Path) -> dict[str, Any]:
    """What a page shows: the scores and the learning curves, by their tables."""
    tables = [workspace / SCORES / RECIPE, *sorted((workspace / CURVES).glob("*/table.csv"))]
    sums = {str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}
    return {"downscale_version": __version__, **sums}


@contextmanager
def page_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder with data/ and figures/ that takes the place of ``folder`` when the block ends well.

    Raises:
        OutputExistsError: a link stands in the way.
    """
    partial, old = folder.with_name(f"{folder.name}.partial"), folder.with_name(f"{folder.name}.old")
    for one in (folder, partial, old):
        if one.is_symlink():
            raise OutputExistsError(
                "a symbolic link stands where the report is written", where=f"{one} -> {one.readlink()}", hint="remove it"
            )
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("data", "figures"):
        (partial / name).mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def silent(done: int, total: int, note: str) -> None:
    """Tells nobody."""
    return None


def fill(template: str, **values: Any) -> str:
    """A template of this folder with its values; a name that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**values)


def render(findings: Findings, sections: list[Section], config: str = "CONFIG") -> str:
    """The page as text."""
    recipe = findings.card.recipe
    return fill(
        "page.html.j2",
        verdict=verdict(findings),
        sections=sections,
        recipe=recipe,
        targets=", ".join(findings.targets),
        channels=", ".join(recipe.get("channels", [])),
        split=recipe.get("inputs", {}).get("split", {}),
        notes=recipe.get("notes", {}),
        n_scores=len(findings.card.scores),
        config=Path(config).name,
        command=f"downscale evaluate {Path(config).name}",
    )
