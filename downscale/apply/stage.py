"""Entry points of apply: all runs of a workspace on its sources, or one run folder on any files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from downscale import __version__
from downscale.apply.align_runs import aligned
from downscale.apply.feed import GroupFeed, Needs, open_feed
from downscale.apply.predict import MANIFEST, ProgressCallback, Task, run_tasks
from downscale.config.load import digest
from downscale.config.schema import ApplyConfig, ExperimentConfig
from downscale.errors import ConfigError
from downscale.pairs.build import STORE_NAME
from downscale.pairs.store import PairGroup, PairStore
from downscale.training.run import Run, list_runs, load_run
from downscale.variables import Channel


def apply_run(
    cfg: ExperimentConfig,
    *,
    runs: Sequence[str] = (),
    sources: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    force_unlock: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Apply runs to the prepared sources of an experiment.

    Args:
        cfg: the experiment.
        runs: names in the workspace or paths; all complete runs of the workspace when empty.
        sources: names of rcm or gcm sources; all when empty. An rcm source means its RCMu, a gcm source its own fields.
        device: "auto", "cpu" or "cuda".
        overwrite, dry_run, force_unlock, progress: see run_tasks; dry_run lists the tasks only.

    Returns:
        ``artefact`` and a line per prediction.
    """
    store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
    unknown = sorted(set(sources) - set(cfg.sources))
    if unknown:
        raise ConfigError(f"no source '{unknown[0]}' in the config", where="--source", hint=f"have {', '.join(cfg.sources)}")
    loaded = [load_run(path, device=device) for path in list_runs(cfg.workspace_path(), runs)]
    tasks = [task for run in loaded for task in _tasks(cfg, store, run, sources)]
    root = cfg.workspace_path() / "predictions"
    if dry_run:
        return {"artefact": None, "would write": [f"{task.folder}: {len(task.feed.days)} days" for task in tasks]}
    lines = run_tasks(
        tasks,
        block_days=cfg.apply.block_days,
        compression=cfg.apply.compression,
        overwrite=overwrite,
        force_unlock=force_unlock,
        progress=progress,
    )
    return {"artefact": root, "predictions": lines}


def _tasks(cfg: ExperimentConfig, store: PairStore, run: Run, sources: Sequence[str]) -> list[Task]:
    tasks = []
    for group in store.groups.values():
        for kind in group.kinds:
            name = _source_name(cfg, group, kind)
            if sources and name not in sources:
                continue
            index = group.split("test") if cfg.apply.days == "test" and group.has_truth else np.arange(len(group.days))
            if not len(index) or (run.needs_surface and not np.isfinite(group.surface(kind, index[:1])).any()):
                continue
            run.check_inputs(store.channels, store.coarse, store.scalars)
            facts = {
                "run": run.path.name,
                "group": group.name,
                "kind": kind,
                "source": name,
                "input_digest": group.attributes["digest"],
                "notes": group.notes,
                **run.facts,
            }
            fed, said = aligned(cfg, store, run, (group, kind), group.days[index])
            facts |= {"align": said} if said else {}
            folder = cfg.workspace_path() / "predictions" / run.path.name / f"{group.name}_{kind}"
            attributes = _attributes(run, name, kind, cfg.sources[name].facets)
            attributes |= {"downscale_alignment": fed.alignment.words()} if said else {}
            tasks.append(Task(run, GroupFeed(fed, kind, index), folder, facts, attributes, cfg.workspace_path()))
    return tasks


def _source_name(cfg: ExperimentConfig, group: PairGroup, kind: str) -> str:
    return group.name if kind == "perfect" or not group.has_truth else cfg.driver_of(group.name) or group.name


def apply_files(
    run_path: Path,
    inputs: Sequence[Path],
    output: Path,
    *,
    forcings: Path | None = None,
    assume_units: dict[str, str] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    force_unlock: bool = False,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Apply one run folder to files, without config or training data.

    Args:
        run_path: the run folder.
        inputs: NetCDF files of a GCM or of an RCM with the run's channels.
        output: folder for one file per variable.
        forcings: CSV of the scenario, for runs trained with forcings.
        assume_units: variable -> units that replace the files' attribute.
        device, overwrite, dry_run, force_unlock, progress: as in apply_run.

    Raises:
        InputDataError: channels, levels, units or grid do not fit the run (a line per difference).
    """
    run = load_run(run_path, device=device)
    needs = Needs(
        run.channels,
        [Channel(name) for name in run.targets],
        run.forcing_columns,
        run.coarse,
        run.smooth,
        run.min_valid_fraction,
        run.edges,
    )
    feed = open_feed(inputs, needs, forcings=forcings, assume_units=assume_units or {})
    facts = {
        "run": run.path.name,
        "group": "files",
        "kind": "files",
        "source": "files",
        "input_digest": digest(feed.source.files),
        "files": feed.source.files,
        "notes": feed.source.notes,
        **run.facts,
    }
    task = Task(
        run,
        feed,
        output,
        facts,
        _attributes(run, ", ".join(path.name for path in inputs[:3]) + (" ..." if len(inputs) > 3 else ""), "files", {}),
    )
    span = f"{feed.days[0]}..{feed.days[-1]} ({len(feed.days)} days, {feed.calendar})"
    if dry_run:
        return {"artefact": None, "would write": f"{', '.join(run.targets)} for {span} to {output}", "notes": feed.source.notes}
    defaults = ApplyConfig()
    with closing(feed.source):
        lines = run_tasks(
            [task],
            block_days=defaults.block_days,
            compression=defaults.compression,
            overwrite=overwrite,
            force_unlock=force_unlock,
            progress=progress,
        )
    return {"artefact": output, "days": span, "notes": feed.source.notes, "predictions": lines, "manifest": str(output / MANIFEST)}


def _attributes(run: Run, source: str, kind: str, facets: dict[str, str]) -> dict[str, str]:
    """Provenance in the files (CONVENTIONS B.5)."""
    trained = ", ".join(run.facts["trained_on"])
    words = {"perfect": "upscaled RCM fields (RCMu)", "imperfect": "GCM fields", "files": "given files"}[kind]
    return {
        "title": f"Emulated fields: {run.path.name} applied to {source}",
        "source": f"statistical emulator of a regional climate model ({run.facts['model']}), trained on {trained}",
        "history": f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} downscale {__version__} apply",
        "comment": f"predictors: {words} of {source}",
        "downscale_version": __version__,
        "downscale_model_id": run.model_id,
        "downscale_config_sha256": run.config_digest,
        "downscale_model_training": trained,
        **{f"driving_{key}" if not key.startswith("driving_") else key: value for key, value in sorted(facets.items())},
    }
