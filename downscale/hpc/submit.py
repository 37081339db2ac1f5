"""A chain of jobs for the stages of an experiment: planned, written as scripts, submitted."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from downscale.config.hpc import JobConfig, StageName
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, OutputExistsError, Stopped
from downscale.hpc import slurm
from downscale.hpc.jobs import Entry, new_chain, next_number, unfinished, write_chain
from downscale.hpc.paths import refuse_links
from downscale.hpc.resources import resources_of
from downscale.hpc.room import require_writable
from downscale.hpc.scripts import LOGS, SLURM, Job, Setting, render
from downscale.hpc.signals import StopFlag
from downscale.hpc.sites import Site

log = logging.getLogger(__name__)
STAGES: tuple[StageName, ...] = ("prepare", "train", "few-shot", "apply", "evaluate")
_DASK = ("prepare", "evaluate")
_LEARNING = ("train", "few-shot", "apply")
_NUMBER = re.compile(r"\d+(_\d+)?")
Estimates = Mapping[str, tuple[int, int]]
"""Stage -> seconds and bytes that it is expected to take."""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        config: the YAML file.
        stages: in order.
        overrides: ``a.b=c``, handed on to every command.
        few_shot: options of the command few-shot, --from among them.
        dask: workers of a Dask within the jobs of prepare and evaluate; 0: none.
        after: number of a job that has to succeed first.
    """

    config: Path
    stages: Sequence[StageName]
    overrides: Sequence[str] = ()
    few_shot: Sequence[str] = ()
    dask: int = 0
    after: str | None = None


@dataclass
class _Chain:
    """Jobs one after the other; the last ones are what the next stage waits for."""

    jobs: list[Job] = field(default_factory=list)
    last: list[str] = field(default_factory=list)

    def add(self, stage: str, job: Job) -> None:
        key = f"{len(self.jobs) + 1:02d}-{stage}"
        self.jobs.append(Job(key, job.stage, job.command, job.resources, job.items, job.option, tuple(self.last), job.dask))
        self.last = [key]


def check_stages(stages: Sequence[str]) -> list[StageName]:
    """The stages, if all of them are stages, each once and in order; ConfigError otherwise."""
    known: dict[str, StageName] = {name: name for name in STAGES}
    unknown = [stage for stage in stages if stage not in known]
    if unknown:
        raise ConfigError(f"'{unknown[0]}' is not a stage that can be submitted", where="STAGE...", hint=f"use {', '.join(STAGES)}")
    found = [known[stage] for stage in stages]
    wrong = [f"{two} after {one}" for one, two in pairwise(found) if STAGES.index(two) <= STAGES.index(one)]
    if wrong:
        order = f"give each once, in this order: {', '.join(STAGES)}"
        raise ConfigError(f"{wrong[0]} is not the order of the stages", where="STAGE...", hint=order)
    return found


def plan(cfg: ExperimentConfig, request: Request, site: Site, estimates: Estimates) -> list[Job]:
    """The jobs of all stages, each after the one before.

    Raises:
        ConfigError: the stages lack something, or --dask where there is nothing for it.
        EnvironmentMissingError: GPUs are asked for, and the site has none.
    """
    if "few-shot" in request.stages and "--from" not in request.few_shot:
        raise ConfigError("few-shot needs a run to go on from", where="submit", hint="give --from RUN, also where this chain trains it")
    if request.dask and not set(request.stages) & set(_DASK):
        raise ConfigError("--dask is for prepare and evaluate", where="submit", hint="leave it out, or add such a stage")
    if request.after is not None and not _NUMBER.fullmatch(request.after):
        raise ConfigError(f"--after: '{request.after}' is not the number of a job", where="submit", hint="give a number that squeue shows")
    chain = _Chain()
    for stage in request.stages:
        for name, job in _stage(cfg, request, site, stage, estimates.get(stage)):
            chain.add(name, job)
    return chain.jobs


def _stage(
    cfg: ExperimentConfig, request: Request, site: Site, stage: StageName, estimate: tuple[int, int] | None
) -> Iterator[tuple[str, Job]]:
    dask = request.dask if stage in _DASK else 0
    asked = cfg.hpc.jobs.get(stage, JobConfig())
    resources = resources_of(site, cfg.hpc, stage, estimate, dask=dask)
    command = [stage, str(request.config.absolute()), *(part for one in request.overrides for part in ("--set", one))]
    if stage == "few-shot":
        command += request.few_shot
    if stage in _LEARNING and resources.gpus:
        command += ["--device", "cuda"]
    if stage in _DASK and not dask:
        command += ["--workers", str(resources.cpus)]
    whole = Job("", stage, command, resources, dask=dask)
    if stage == "train" and len(cfg.train.seeds) > 1:
        first, *rest = map(str, cfg.train.seeds)
        yield "train-first", Job("", stage, [*command, "--seed", first], resources)  # it fits the baselines, too
        yield "train-seeds", Job("", stage, command, resources, rest, "--seed")
        yield "train-verify", whole
    elif asked.array > 1 and stage == "prepare" and not dask:
        parts = [f"{number + 1}/{asked.array}" for number in range(asked.array)]
        yield "prepare-parts", Job("", stage, command, resources, parts, "--part")
        yield "prepare-merge", whole
    elif asked.array > 1 and stage in ("few-shot", "apply"):
        shares = list(map(str, range(1, asked.array + 1)))
        yield f"{stage}-shares", Job("", stage, [*command, "--no-wait"], resources, shares)
        yield f"{stage}-verify", whole
    else:
        yield stage, whole


def setting_of(cfg: ExperimentConfig, request: Request, site: Site) -> Setting:
    """What all jobs share."""
    environment, workspace = cfg.hpc.environment, cfg.workspace_path().absolute()
    python = f"{environment.venv}/bin/python" if environment.venv else "python" if environment.container else sys.executable
    bind = [str(workspace), str(request.config.absolute().parent), *_inputs(cfg), *environment.bind] if environment.container else []
    return Setting(
        workspace=workspace,
        chain=next_number(workspace),
        python=python,
        lines=environment.lines,
        image=environment.container,
        bind=list(dict.fromkeys(bind)),
        requeue=site.requeue if cfg.hpc.requeue is None else cfg.hpc.requeue,
        continuations=cfg.hpc.continuations,
        warning=cfg.hpc.warning_seconds,
        together=site.array_limit,
        interface=site.dask_interface,
    )


def _inputs(cfg: ExperimentConfig) -> Iterator[str]:
    """Folders of the input files: what stands before the first part of a path that is a pattern."""
    for source in cfg.sources.values():
        for entry in source.files:
            plain = [part for part in Path(entry).parents if not set("*?[") & set(str(part))]
            yield str(Path(entry) if Path(entry).is_dir() else plain[0])
    if cfg.forcings:
        yield str(Path(cfg.forcings.file).parent)


def printed(jobs: Sequence[Job], setting: Setting, after: str | None) -> str:
    """All scripts, each below the command that would submit it."""
    parts = []
    for job in jobs:
        waits = [f"JOB_OF_{key}" for key in job.after] or ([after] if after else [])
        command = shlex.join(["sbatch", "--parsable", *_dependency(waits), str(setting.folder / f"{job.key}.sh")])
        parts.append(f"# === {job.key}: {job.resources.describe()}\n# {command}\n{render(job, setting)}")
    return "\n".join(parts)


def submit(cfg: ExperimentConfig, request: Request, jobs: Sequence[Job], setting: Setting) -> list[Entry]:
    """Write the scripts and submit them.

    Raises:
        EnvironmentMissingError: there is no SLURM, or it refuses a job; then none of the chain stays in the queue.
        OutputExistsError: jobs of this workspace are still in the queue, and the chain is not put behind them.
        Stopped: a signal came; none of the chain stays in the queue.
    """
    slurm.require_slurm()
    scripts = [render(job, setting) for job in jobs]
    require_writable(setting.workspace)
    waiting = unfinished(setting.workspace)
    if waiting and (request.after or "").partition("_")[0] not in waiting:
        raise OutputExistsError(
            f"jobs of this workspace are still in the queue: {', '.join(waiting)}",
            where=str(setting.workspace),
            hint=f"wait for them, end them with downscale cancel, or put the new ones behind with --after {waiting[0]}",
        )
    refuse_links(setting.workspace / SLURM)
    (setting.workspace / LOGS).mkdir(parents=True, exist_ok=True)
    new_chain(setting.folder)
    entries: list[Entry] = []
    with StopFlag() as stop:  # between sbatch and the record of its job nothing else may come
        try:
            for job, text in zip(jobs, scripts, strict=True):
                script = setting.folder / f"{job.key}.sh"
                script.write_text(text, encoding="utf-8")
                numbers = [entry.job for entry in entries if entry.key in job.after] or ([request.after] if request.after else [])
                number = slurm.sbatch(script, _dependency(numbers), folder=setting.workspace)
                entries.append(Entry(job.key, job.stage, number, list(job.after), len(job.items)))
                write_chain(setting.folder, str(request.config.absolute()), entries)
                if stop.set:
                    raise Stopped(f"stopped by {stop.name}; the jobs are taken back", hint="run the same command again to submit them")
        except BaseException:
            _take_back(setting.folder, entries)
            raise
    return entries


def _take_back(folder: Path, entries: Sequence[Entry]) -> None:
    """End the jobs of a chain that is not whole; it leaves nothing behind where none of them has begun and SLURM has ended them all."""
    with suppress(OSError):
        (folder / "cancelled").touch()
    refused = slurm.scancel([entry.job for entry in reversed(entries)])
    if refused:
        log.warning("SLURM does not take all of them back (%s): try downscale cancel", refused)
    elif not any(folder.glob("*-*.json")):
        shutil.rmtree(folder, ignore_errors=True)


def _dependency(jobs: Sequence[str]) -> list[str]:
    return [f"--dependency=afterok:{':'.join(jobs)}", "--kill-on-invalid-dep=yes"] if jobs else []
