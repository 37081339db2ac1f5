"""Scores, then the report: of a workspace, or of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downscale.cli.judging import FLAGS, command_of, not_with, parse_fill_values, parse_units
from downscale.errors import ConfigError

if TYPE_CHECKING:
    from downscale.config.schema import ExperimentConfig

Progress = Callable[[int, int, str], None]


def evaluate_either(
    config: Path | None, with_config: Mapping[str, Any], with_files: Mapping[str, Any], shared: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Evaluate a workspace or files, whichever is given.

    Args:
        config: experiment YAML, or None.
        with_config: overrides, predictors, dry_run, force_unlock.
        with_files: prediction, reference, output, profile, variables, region, mask, land, common_days, assume_units, fill_values, member,
            year_starts, december, max_memory.
        shared: workers, scheduler, overwrite.
        progress: called with (done, total, note).

    Raises:
        ConfigError: neither or both, or options of the other use.
    """
    flags = {FLAGS.get(name, f"--{name.replace('_', '-')}"): value for name, value in with_files.items()}
    if config is not None:
        not_with(flags, "with CONFIG the predictions of its workspace are judged; leave CONFIG out to judge files")
        plain = {name: value for name, value in with_config.items() if name != "predictors"}
        if with_config.get("predictors"):
            not_with(
                {"--workers": shared["workers"], "--scheduler": shared["scheduler"]},
                "with --predictors everything is done in this process, in seconds to minutes: leave them out",
            )
            return compare_predictors(config, **plain, overwrite=shared["overwrite"])
        return evaluate_and_report(config, **plain, **shared, progress=progress)
    lacking = [flag for flag in ("--prediction", "--reference", "--output") if not flags[flag]]
    if lacking:
        some = f"evaluate of files needs {', '.join(lacking)}, too"
        raise ConfigError(
            some if len(lacking) < 3 else "evaluate needs a config or files to judge",
            where="command line",
            hint="downscale evaluate CONFIG, or downscale evaluate --prediction FILE... --reference FILE... -o DIR",
        )
    own = {
        "--set": with_config["overrides"], "--predictors": with_config.get("predictors"), "--dry-run": with_config["dry_run"],
        "--force-unlock": with_config["force_unlock"],
    }  # fmt: skip
    not_with(own, "these go with CONFIG")
    return judge_files(with_files, shared, progress)


def evaluate_and_report(
    config: Path,
    overrides: Sequence[str],
    *,
    overwrite: bool,
    dry_run: bool,
    force_unlock: bool,
    progress: Progress,
    workers: int | None = None,
    scheduler: str | None = None,
) -> dict[str, Any]:
    """Evaluate every prediction of the workspace and draw the report; the artefact is the report."""
    from downscale.config.load import load_config
    from downscale.evaluate.blocks_spread import spreading
    from downscale.evaluate.stage import evaluate_run, list_predictions
    from downscale.hpc.locks import folder_lock
    from downscale.report.html import make_report, report_there

    cfg = load_config(config, overrides)
    if dry_run:
        return {"artefact": None, "would judge": list_predictions(cfg)}
    with folder_lock(cfg.workspace_path(), force=force_unlock):
        with spreading(scheduler, workers) as spread:
            summary = evaluate_run(cfg, overwrite=overwrite, progress=progress, spread=spread)
        there = report_there(cfg) if "note" in summary and not overwrite else None
        report = there or make_report(cfg, progress=progress, config=str(config))
    return {**summary, "artefact": report}


def compare_predictors(config: Path, overrides: Sequence[str], *, overwrite: bool, dry_run: bool, force_unlock: bool) -> dict[str, Any]:
    """How GCM and RCMu agree, before any training; the artefact is a page, or the folder where there is nothing to compare."""
    from downscale.config.load import load_config
    from downscale.evaluate.transfer.predictors import evaluate_predictors, list_comparisons
    from downscale.hpc.locks import folder_lock
    from downscale.report.predictors import make_predictor_page

    cfg = load_config(config, overrides)
    if dry_run:
        return {"artefact": None, "would compare": list_comparisons(cfg)}
    with folder_lock(cfg.workspace_path(), force=force_unlock):
        summary = evaluate_predictors(cfg, overwrite=overwrite)
        folder = Path(summary["artefact"])
        page = make_predictor_page(folder) if summary["comparisons"] else folder
    return {**summary, "artefact": page}


def with_consistency(cfg: ExperimentConfig, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of ``prepare`` and, where it has built something, a line on each pair of predictors."""
    if summary.get("artefact") is None or "unchanged" in summary:
        return dict(summary)
    from downscale.evaluate.transfer.predictors import quick_reading

    lines = quick_reading(cfg)
    return {**summary, "predictors": [*lines, "more of this: downscale evaluate CONFIG --predictors"] if lines else []}


def judge_files(given: Mapping[str, Any], shared: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Evaluate files; the artefact is the page with the default profile, else the folder, with the page in it."""
    from downscale.evaluate.files.judge import Where, Work, evaluate_files
    from downscale.evaluate.files.options import FileOptions
    from downscale.hpc.room import parse_size

    units, own_units = parse_units(given["assume_units"] or [])
    missing, own_missing = parse_fill_values(given["fill_values"] or [])
    options = FileOptions(
        tuple(given["variables"] or ()), given["common_days"], units, own_units, missing, own_missing, given["member"],
        given["year_starts"], given["december"],
    )  # fmt: skip
    where = Where(_box(given["region"]), _mask(given["mask"]), given["land"])
    memory = parse_size(given["max_memory"], "--max-memory") if given["max_memory"] else None
    output: Path = given["output"]
    summary = evaluate_files(
        given["prediction"], given["reference"], output, profile=given["profile"], options=options, where=where,
        work=Work(shared["workers"], shared["scheduler"], memory), overwrite=shared["overwrite"], command=command_of(given, shared),
        progress=progress,
    )  # fmt: skip
    from downscale.report.files import make_files_report

    page = make_files_report(output, output / "report")
    return {**summary, "artefact": page} if given["profile"] == "default" else {**summary, "page": page}


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        west, east, south, north = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--region: '{text}' is not W,E,S,N", hint="four numbers in degrees, e.g. --region 5,15,44,48") from None
    if south >= north:
        raise ConfigError(f"--region: south {south:g} is not below north {north:g}", hint="the order is W,E,S,N")
    return west, east, south, north


def _mask(text: str | None) -> tuple[Path, str] | None:
    if text is None:
        return None
    path, sign, variable = text.rpartition(":")
    if not (path and sign and variable):
        raise ConfigError(f"--mask: '{text}' is not FILE:VARIABLE", hint="e.g. --mask basins.nc:rhine")
    return Path(path), variable
