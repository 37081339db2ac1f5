"""Config section of jobs on a cluster: the site, what jobs ask for, where their Python comes from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from downscale.config.inputs import Strict

StageName = Literal["prepare", "train", "few-shot", "apply", "evaluate"]
_DURATION = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d)(?::([0-5]\d))?")
_SIZE = re.compile(r"\d+(?:\.\d+)?\s*[kMGT]i?B?", re.IGNORECASE)
_PLAIN = re.compile(r"[^\s'\"`$\\;&|<>#]+")


def seconds_of(duration: str) -> int:
    """Seconds of ``HH:MM``, ``HH:MM:SS`` or ``DAYS-HH:MM:SS``; ValueError for anything else."""
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        raise ValueError(f"'{duration}' is not a time: give HH:MM:SS or DAYS-HH:MM:SS, in quotes")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds


def _duration(text: str) -> str:
    if seconds_of(text) < 60:
        raise ValueError(f"'{text}' is less than a minute")
    return text


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text.strip()):
        raise ValueError(f"'{text}' is not a size, e.g. 64GB")
    return text


def _plain(text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"'{text}' cannot stand in a line of a job script: no spaces, quotes or shell signs")
    return text


def _line(text: str) -> str:
    if any(ord(sign) < 32 for sign in text):
        raise ValueError("one line each, without control characters")
    return text


Duration = Annotated[str, AfterValidator(_duration)]
Size = Annotated[str, AfterValidator(_size)]
Plain = Annotated[str, AfterValidator(_plain)]
"""A word that goes into a line of a job script as it is."""
Line = Annotated[str, AfterValidator(_line)]


class JobConfig(Strict):
    """What the jobs of one stage ask for; what is not given is the site's, else an estimate."""

    time: Duration | None = Field(None, description='"HH:MM:SS"; a job that needs longer is continued by itself')
    memory: Size | None = Field(None, description='of a node, e.g. "64GB"')
    cpus: int | None = Field(None, ge=1, description="cores of each process, or of each task of an array")
    gpus: int | None = Field(None, ge=0, description="GPUs of each process; 0: a job on CPUs")
    tasks: int = Field(1, ge=1, description="train: processes that train one network together")
    nodes: int = Field(1, ge=1, description="over which the tasks, or the workers of --dask, are spread evenly")
    array: int = Field(
        1, ge=1, description="prepare, few-shot, apply: jobs that share the work; a last one verifies (seeds come by themselves)"
    )
    partition: Plain | None = Field(None, description="replaces the site's partition")
    qos: Plain | None = Field(None, description="replaces the site's quality of service")
    options: list[Plain] = Field([], description="further options of sbatch, e.g. --exclusive")

    @model_validator(mode="after")
    def _tasks_over_nodes(self) -> JobConfig:
        if self.tasks > 1 and self.tasks % self.nodes:
            raise ValueError(f"tasks: {self.tasks} cannot be spread evenly over {self.nodes} nodes")
        return self


class EnvironmentConfig(Strict):
    """Where the Python of the jobs comes from; without anything, from where the jobs are submitted."""

    lines: list[Line] | None = Field(None, description="shell lines that come first, e.g. module load NAME; replaces the site's")
    venv: str | None = Field(None, description="folder of a virtual environment, seen by the compute nodes")
    container: str | None = Field(None, description="image in which the commands run (apptainer); its python is used, or that of venv")
    bind: list[str] = Field([], description="folders that the container sees besides the workspace, the config's folder and the inputs")


class HpcConfig(Strict):
    """Jobs of downscale submit."""

    site: str = Field("generic", description="name of a site profile, or the YAML file of one (see docs/howto/site-profiles.md)")
    account: Plain | None = Field(None, description="project that the jobs are charged to; the profile may add a suffix")
    environment: EnvironmentConfig = Field(EnvironmentConfig(), description="modules, virtual environment or container")
    jobs: dict[StageName, JobConfig] = Field({}, description="what jobs ask for, by stage: prepare, train, few-shot, apply, evaluate")
    requeue: bool | None = Field(
        None, description="a job that stops in time goes back to the queue; false: it submits itself again; default: the site's"
    )
    continuations: int = Field(50, ge=0, description="how often one job may go on by itself before it is left to you")
    warning_seconds: int = Field(120, ge=10, description="how long before the end of a job its stage is told to save and stop")
    scratch: str | None = Field(
        None,
        description="folder on a disk of the node, or $NAME for the one that a variable of the job names: train copies the pairs there "
        "where it reads them from disk (see train.stream)",
    )

    def beside(self, folder: Path) -> dict[str, Any]:
        """As plain data, with paths relative to a folder made absolute; a site is a file where it looks like a path."""
        data = self.model_dump()
        environment = data["environment"]
        for key in ("venv", "container"):
            if environment[key] is not None:
                environment[key] = _joined(folder, environment[key])
        if self.scratch is not None and not self.scratch.startswith("$"):
            data["scratch"] = _joined(folder, self.scratch)
        environment["bind"] = [_joined(folder, path) for path in environment["bind"]]
        if "/" in self.site or self.site.endswith((".yaml", ".yml")):
            data["site"] = _joined(folder, self.site)
        return data


def _joined(folder: Path, path: str) -> str:
    return os.path.normpath(folder / path)
