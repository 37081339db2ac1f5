"""What a job asks for: the config's word, else the site's, else an estimate; never more than the site has."""

from __future__ import annotations

from dataclasses import dataclass, field

from downscale.config.hpc import HpcConfig, JobConfig, StageName, seconds_of
from downscale.errors import ConfigError, EnvironmentMissingError
from downscale.hpc.room import parse_size
from downscale.hpc.signals import MARGIN_SECONDS
from downscale.hpc.sites import GpuNodes, Nodes, Site

_CPUS = 4
_LEAST_SECONDS = 600
_UNKNOWN = (4 * 3600, 16_000_000_000)
"""Seconds and bytes where nobody has estimated."""
_PROGRAM_BYTES, _WORKER_BYTES = 4_000_000_000, 3_000_000_000
"""Of the command with the scheduler of a Dask, and of each of its workers."""


@dataclass(frozen=True)
class Resources:
    """Of one job, or of each task of an array.

    Attributes:
        seconds: until SLURM ends it.
        memory: bytes of a node; None: not asked for.
        cpus: of a process; one for a worker of Dask.
        gpus: of a process.
        tasks: processes, or workers of Dask.
        nodes: that they are spread over.
        options: of sbatch, those above among them.
        environment: shell lines of the site.
        container: the command that runs something in a container.
        notes: what was made less than asked for.
    """

    seconds: int
    memory: int | None
    cpus: int
    gpus: int
    tasks: int
    nodes: int
    options: list[str]
    environment: list[str]
    container: list[str]
    notes: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """In words."""
        parts = [f"{self.tasks} processes on {self.nodes} node(s)"] if self.tasks > 1 else []
        parts += [f"{self.cpus} core{'s' * (self.cpus > 1)}"]
        parts += [f"{self.gpus} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        parts += [f"{self.memory / 1e9:.3g} GB"] if self.memory else []
        return ", ".join([*parts, _clock(self.seconds)])


def resources_of(site: Site, hpc: HpcConfig, stage: StageName, estimate: tuple[int, int] | None, *, dask: int = 0) -> Resources:
    """Decide what a stage's jobs ask for.

    Args:
        site: the cluster.
        hpc: the config's section.
        stage: which.
        estimate: seconds and bytes that it is expected to take; None: nobody knows.
        dask: workers of a Dask within the job; 0: none.

    Raises:
        EnvironmentMissingError: GPUs are asked for, or needed for the stage, and the site has none, or too few.
        ConfigError: the site needs an account.
    """
    job = hpc.jobs.get(stage, JobConfig())
    gpus = _gpus(site, job, stage)
    nodes = site.gpu if gpus and site.gpu is not None else site.cpu
    if site.needs_account and hpc.account is None:
        raise ConfigError("this site charges jobs to a project", where="hpc.account", hint="give the project in the config, or by --set")
    tasks = dask or (job.tasks if stage == "train" else 1)
    spread = min(job.nodes, tasks)
    here = -(-tasks // spread)
    seconds, memory, notes = _limited(nodes, job, _expected(estimate or _UNKNOWN, here, dask=dask), stage)
    _require_time(seconds, hpc, stage)
    cpus, more = _cores(nodes, job, stage, gpus, here, dask=dask)
    notes += more
    asked = memory if site.ask_memory else None
    options = [
        *nodes.options,
        *_who(nodes, hpc, job, seconds),
        f"--time={_clock(seconds)}",
        f"--nodes={spread}",
        f"--ntasks={tasks}",
        f"--ntasks-per-node={here}",
        f"--cpus-per-task={cpus}",
        *([f"--mem={-(-asked // 2**20)}M"] if asked else []),
        *([nodes.ask.format(gpus=gpus * here)] if isinstance(nodes, GpuNodes) and gpus else []),
        *job.options,
    ]
    return Resources(
        seconds,
        asked,
        cpus,
        gpus,
        tasks,
        spread,
        options,
        nodes.environment,
        [*site.container, *(nodes.container if gpus else [])],
        notes,
    )


def _expected(estimate: tuple[int, int], here: int, *, dask: int) -> tuple[int, int]:
    """Seconds and bytes of a node with so many processes, or workers of Dask, from those of one process."""
    seconds, memory = estimate
    return seconds, _PROGRAM_BYTES + here * _WORKER_BYTES if dask else here * memory


def _require_time(seconds: int, hpc: HpcConfig, stage: StageName) -> None:
    """Refuse a job that would be continued again and again without doing anything; ConfigError."""
    free = max(hpc.warning_seconds, int(MARGIN_SECONDS))
    if seconds < 2 * free:
        raise ConfigError(
            f"{stage} would stop {free} s before the end of a job of {seconds} s",
            where=f"hpc.jobs.{stage}.time",
            hint=f"give it {2 * free} s or more" + (", or lower hpc.warning_seconds" if free > MARGIN_SECONDS else ""),
        )


def _cores(nodes: Nodes, job: JobConfig, stage: StageName, gpus: int, here: int, *, dask: int) -> tuple[int, list[str]]:
    """Cores of a process, of which a node has ``here``, and what was not done as asked for."""
    notes = []
    cpus = job.cpus or (gpus * nodes.cpus_per_gpu if isinstance(nodes, GpuNodes) and nodes.cpus_per_gpu else _CPUS)
    if dask:
        cpus = 1
        ignored = [f"hpc.jobs.{stage}.{name}" for name in ("cpus", "array") if (getattr(job, name) or 1) > 1]
        notes += [f"{stage}: each worker of --dask has one core and one thread; {' and '.join(ignored)} not used"] if ignored else []
    if nodes.cpus is not None and cpus * here > nodes.cpus:
        notes.append(f"{stage}: {cpus * here} cores of a node asked for, the site has {nodes.cpus}")
        cpus = max(1, nodes.cpus // here)
    return cpus, notes


def _gpus(site: Site, job: JobConfig, stage: StageName) -> int:
    """GPUs of each process."""
    wanted = job.gpus if job.gpus is not None else int(site.gpu is not None and stage in site.gpu.stages)
    if wanted and site.gpu is None:
        raise EnvironmentMissingError(
            f"{stage} asks for {wanted} GPU(s), and this site has none",
            where=f"hpc.jobs.{stage}.gpus",
            hint="set it to 0, or give another --site",
        )
    here = wanted * -(-job.tasks // job.nodes)
    if wanted and site.gpu is not None and site.gpu.gpus is not None and here > site.gpu.gpus:
        raise EnvironmentMissingError(
            f"{stage} asks for {here} GPUs of a node, and this site has {site.gpu.gpus}",
            where=f"hpc.jobs.{stage}",
            hint="spread the tasks over more nodes, or ask for fewer GPUs",
        )
    return wanted


def _limited(nodes: Nodes, job: JobConfig, estimate: tuple[int, int], stage: str) -> tuple[int, int, list[str]]:
    """Seconds and bytes, at most what the site has, and notes about what was asked for beyond that."""
    seconds = seconds_of(job.time) if job.time else max(_LEAST_SECONDS, estimate[0])
    memory = parse_size(job.memory, "memory") if job.memory else estimate[1]
    notes = []
    if nodes.longest is not None and seconds > nodes.longest:
        if job.time:
            notes.append(f"{stage}: {_clock(seconds)} asked for, the site gives {_clock(nodes.longest)}")
        seconds = nodes.longest
    most = parse_size(nodes.memory, "memory") if nodes.memory else None
    if most is not None and memory > most:
        notes.append(f"{stage}: {memory / 1e9:.3g} GB of memory needed, a node of the site has {most / 1e9:.3g} GB")
        memory = most
    return seconds, memory, notes


def _who(nodes: Nodes, hpc: HpcConfig, job: JobConfig, seconds: int) -> list[str]:
    """Account, partition and quality of service."""
    qos = job.qos or next((one.name for one in nodes.qos if seconds_of(one.time) >= seconds), None)
    partition = job.partition or nodes.partition
    account = nodes.account.format(account=hpc.account) if hpc.account else None
    named = {"account": account, "partition": partition, "qos": qos}
    return [f"--{name}={value}" for name, value in named.items() if value]


def _clock(seconds: int) -> str:
    """``HH:MM:SS``, as sbatch reads it."""
    minutes = -(-seconds // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
