"""Which predictions an experiment asks for: every run on every source that it can read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downscale import __version__
from downscale.apply.align_runs import aligned
from downscale.apply.checks import check_pairs
from downscale.apply.feed import GroupFeed
from downscale.apply.lead import lead_time
from downscale.apply.members import Members, plan_members
from downscale.apply.records import Layout
from downscale.apply.tasks import Job
from downscale.config.schema import ApplyConfig, ExperimentConfig
from downscale.errors import ConfigError
from downscale.pairs.build import STORE_NAME
from downscale.pairs.store import PairGroup, PairStore
from downscale.profiles.facets import merge_facets
from downscale.profiles.output import check_output
from downscale.training.run import Run, list_runs, load_run

CORDEX_YEARS = 5
Who = tuple[Run, Members | None]
"""A run, and the members that it is the first of."""


def config_jobs(cfg: ExperimentConfig, runs: Sequence[str], sources: Sequence[str], device: str) -> list[Job]:
    """The predictions of an experiment.

    Args:
        cfg: the experiment.
        runs: names in the workspace or paths; all complete runs of the workspace when empty.
        sources: names of rcm or gcm sources; all when empty.
        device: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: a source is not in the config, or or the layout cannot hold what is asked for.
        InputDataError: a run does not fit the pairs.
    """
    store = PairStore.open(cfg.workspace_path() / STORE_NAME, cfg.split)
    unknown = sorted(set(sources) - set(cfg.sources))
    if unknown:
        raise ConfigError(f"no source '{unknown[0]}' in the config", where="--source", hint=f"have {', '.join(cfg.sources)}")
    loaded = [load_run(path, device=device) for path in list_runs(cfg.workspace_path(), runs)]
    for run in loaded:
        check_pairs(run, store)
    ensembles = plan_members(cfg.apply.members, loaded) if cfg.apply.members else [None] * len(loaded)
    firsts = [one.runs[0] for one in ensembles if one is not None] if cfg.apply.members else loaded
    jobs = [job for run, members in zip(firsts, ensembles, strict=True) for job in _jobs(cfg, store, (run, members), sources)]
    for job in jobs:
        statistics = job.members is not None and job.members.config.write != "members"
        check_output(job.layout.profile, job.facets, tuple(job.run.targets), statistics=statistics)
    return jobs


def layout_of(cfg: ApplyConfig) -> Layout:
    """How the config wants predictions laid out."""
    years = cfg.years_per_file or (CORDEX_YEARS if cfg.profile == "cordex" else None)
    return Layout(cfg.profile, years, cfg.compression, cfg.significant_bits)


def _jobs(cfg: ExperimentConfig, store: PairStore, who: Who, sources: Sequence[str]) -> list[Job]:
    jobs, run = [], who[0]
    for group in store.groups.values():
        for kind in group.kinds:
            name = _source_name(cfg, group, kind)
            if sources and name not in sources:
                continue
            index = group.split("test") if cfg.apply.days == "test" and group.has_truth else np.arange(len(group.days))
            if not len(index) or (run.needs_surface and not np.isfinite(group.surface(kind, index[:1])).any()):
                continue
            jobs.append(_job(cfg, store, who, (group, kind), index))
    return jobs


def _job(cfg: ExperimentConfig, store: PairStore, who: Who, source: tuple[PairGroup, str], index: np.ndarray) -> Job:
    (run, members), (group, kind), days = who, source, source[0].days[index]
    called = members.name if members else run.path.name
    name = _source_name(cfg, group, kind)
    read = [aligned(cfg, store, one, source, days) for one in (members.runs if members else (run,))]
    extra: dict[str, Any] = ({"align": read[0].facts} if read[0].facts else {}) | ({"members": members.facts} if members else {})
    facts = {
        "run": called,
        "group": group.name,
        "kind": kind,
        "source": name,
        "input_digest": group.attributes["digest"],
        "notes": group.notes,
        **run.facts,
        **extra,
    }
    facets = cfg.sources[name].facets
    attributes = attributes_of(run, name, kind, facets) | read[0].attributes
    if members and members.config.of == "seeds":
        attributes.pop("downscale_seed", None)
    return Job(
        run,
        GroupFeed(read[0].group, kind, index),
        cfg.workspace_path() / "predictions" / called / f"{group.name}_{kind}",
        facts,
        attributes | ({"downscale_members": members.words} if members else {}),
        merge_facets(facets, cfg.apply.facets),
        layout_of(cfg.apply),
        extra,
        lead_time(facets, days, group.calendar),
        read,
        members,
        cfg.workspace_path(),
        group.attributes.get("files", []),
    )


def _source_name(cfg: ExperimentConfig, group: PairGroup, kind: str) -> str:
    return group.name if kind == "perfect" or not group.has_truth else cfg.driver_of(group.name) or group.name


def attributes_of(run: Run, source: str, kind: str, facets: Mapping[str, str]) -> dict[str, str]:
    """Provenance in the files (CONVENTIONS B.5)."""
    trained = ", ".join(run.facts["trained_on"])
    seed = run.card["recipe"].get("settings", {}).get("seed")
    words = {"perfect": "upscaled RCM fields (RCMu)", "imperfect": "GCM fields", "files": "given files"}[kind]
    found: dict[str, Any] = {
        "title": f"Emulated fields: {run.path.name} applied to {source}",
        "source": f"statistical emulator of a regional climate model ({run.facts['model']}), trained on {trained}",
        "history": f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} downscale {__version__} apply",
        "comment": f"predictors: {words} of {source}",
        "downscale_version": __version__,
        "downscale_model_id": run.model_id,
        "downscale_config_sha256": run.config_digest,
        "downscale_model_training": trained,
        **({} if seed is None else {"downscale_seed": str(seed)}),
    }
    return found | {f"driving_{key}" if not key.startswith("driving_") else key: value for key, value in sorted(facets.items())}
