"""Which predictions an experiment asks for: every run on every source that it can read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from downscale.apply.align_runs import aligned
from downscale.apply.checks import calendar_notes, check_pairs
from downscale.apply.feed import GroupFeed
from downscale.apply.input_files import InputFiles
from downscale.apply.lead import lead_time
from downscale.apply.members import Members, plan_members
from downscale.apply.provenance import Predictors, attributes_of, check_jobs
from downscale.apply.records import Layout
from downscale.apply.tasks import Job
from downscale.config.schema import ApplyConfig, ExperimentConfig
from downscale.errors import ConfigError
from downscale.pairs.build import STORE_NAME
from downscale.pairs.store import PairGroup, PairStore
from downscale.training.run import Run, list_runs, load_run

log = logging.getLogger(__name__)
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
        ConfigError: a source is not in the config, or the layout cannot hold what is asked for.
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
    for note in dict.fromkeys(note for job in jobs for note in calendar_notes(job.run, job.facts["source"], job.feed.calendar)):
        log.info("%s", note)
    check_jobs(jobs, {str(model) for group in store.groups.values() for model in group.attributes.get("models", ())})
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
        "notes": [*group.notes, *calendar_notes(run, name, group.calendar)],
        **run.facts,
        **extra,
    }
    facets = cfg.sources[name].facets
    predictors = Predictors(name, kind, facets, regional=kind == "perfect")
    attributes = attributes_of(run, predictors, cfg.apply.facets) | read[0].attributes
    if members and members.config.of == "seeds":
        attributes.pop("downscale_seed", None)
    return Job(
        run=run,
        feed=GroupFeed(read[0].group, kind, index),
        folder=cfg.workspace_path() / "predictions" / called / f"{group.name}_{kind}",
        facts=facts,
        attributes=attributes | ({"downscale_members": members.words} if members else {}),
        facets=predictors.merged(cfg.apply.facets),
        layout=layout_of(cfg.apply),
        extra=extra,
        series=lead_time(facets, days, group.calendar),
        aligned=read,
        members=members,
        root=cfg.workspace_path(),
        inputs=InputFiles.of_source(group.attributes.get("files", []), name, hashed=cfg.apply.hash_inputs),
    )


def _source_name(cfg: ExperimentConfig, group: PairGroup, kind: str) -> str:
    return group.name if kind == "perfect" or not group.has_truth else cfg.driver_of(group.name) or group.name
