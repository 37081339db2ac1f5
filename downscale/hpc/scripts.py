"""The batch script of one job: what SLURM reads, the environment, the command, and what happens when the command stops early."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from downscale.errors import ConfigError
from downscale.hpc.resources import Resources
from downscale.hpc.shell import END, FUNCTIONS, LAST_WORDS

SLURM = "slurm"
LOGS = "slurm/logs"
"""Folders of scripts and states, and of logs, below the workspace."""
_LEAST_WAIT = 60
"""Seconds."""


@dataclass(frozen=True)
class Job:
    """One job of a chain.

    Attributes:
        key: its name in the chain, e.g. ``02-train``.
        stage: of the experiment.
        command: arguments of downscale.
        resources: what it asks for.
        items: one value for each task of an array; empty: no array.
        option: the option of the command that takes the value; empty: the command takes none.
        after: keys of the jobs that have to succeed first.
        dask: workers of a Dask that is started within the job; 0: none.
    """

    key: str
    stage: str
    command: Sequence[str]
    resources: Resources
    items: Sequence[str] = ()
    option: str = ""
    after: Sequence[str] = ()
    dask: int = 0


@dataclass(frozen=True)
class Setting:
    """What all jobs of a chain share.

    Attributes:
        workspace: folder that the jobs run in.
        chain: number of the chain, as text.
        python: the interpreter, as the jobs see it.
        lines: shell lines that come first; None: the site's.
        image: container image; None: no container.
        bind: folders that the container sees.
        requeue: whether a job goes back to the queue when it has to go on.
        continuations: how often a job may go on.
        warning: seconds before the end of a job at which the stage is told.
        together: tasks of an array that run at the same time; None: any.
        interface: network interface of Dask; None: its own choice.
    """

    workspace: Path
    chain: str
    python: str
    lines: Sequence[str] | None = None
    image: str | None = None
    bind: Sequence[str] = field(default_factory=list)
    requeue: bool = False
    continuations: int = 50
    warning: int = 120
    together: int | None = None
    interface: str | None = None

    @property
    def folder(self) -> Path:
        """Of scripts and states."""
        return self.workspace / SLURM / self.chain


def render(job: Job, setting: Setting) -> str:
    """The script of a job.

    Raises:
        ConfigError: a path that cannot stand in a script.
    """
    for text in (str(setting.workspace), setting.python, *job.command, *setting.bind):
        if any(ord(sign) < 32 for sign in text):
            raise ConfigError(f"a path or value has a control character: {text!r}", hint="rename it")
    if set("%\\") & set(str(setting.workspace)):
        raise ConfigError(
            "SLURM takes % and \\ in the path of a log for signs of its own", where=str(setting.workspace), hint="give another workspace"
        )
    unbound = [path for path in setting.bind if set(":,") & set(path)]
    if unbound:
        raise ConfigError("a container takes : and , in the path of a folder for signs of its own", where=unbound[0], hint="rename it")
    parts = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in _options(job, setting)),
        *_begin(job, setting),
        FUNCTIONS,
        *_environment(job, setting),
        f"command=({_words(_prefix(job, setting))} -m downscale {_words(job.command)})",
        *([f'command+=({job.option} "${{items[task]}}")'] if job.items and job.option else []),
        *(_dask(job, setting) if job.dask else _step(job, setting)),
        END,
    ]
    return "\n".join(parts)


def log_pattern(job: Job, setting: Setting) -> str:
    """The log of a job below the workspace, as SLURM names it."""
    return f"{LOGS}/{setting.chain}-{job.key}.{'%A_%a' if job.items else '%j'}.log"


def _options(job: Job, setting: Setting) -> list[str]:
    together = f"%{setting.together}" if setting.together and len(job.items) > setting.together else ""
    return [
        f"--job-name=downscale-{job.key}",
        f"--output={log_pattern(job, setting)}",
        "--open-mode=append",
        *job.resources.options,
        f"--signal=USR1@{setting.warning}",
        "--requeue" if setting.requeue else "--no-requeue",
        *([f"--array=0-{len(job.items) - 1}{together}"] if job.items else []),
    ]


def _begin(job: Job, setting: Setting) -> list[str]:
    return [
        f"# Submit from {setting.workspace}".rstrip(),
        f"cd -- {shlex.quote(str(setting.workspace))} || exit 1",
        f"here={shlex.quote(str(setting.folder))}",
        f"key={job.key}",
        f"items=({_words(job.items)})",
        f"requeue={int(setting.requeue)}",
        f"limit={setting.continuations}",
    ]


def _environment(job: Job, setting: Setting) -> list[str]:
    """Shell lines of the site or the config, each looked at, then the program that they should give, and the threads of a process."""
    lines = job.resources.environment if setting.lines is None else setting.lines
    threads = 1 if job.stage in ("prepare", "evaluate") else job.resources.cpus
    checked = [part for line in lines for part in (line, f"require $? {shlex.quote(line)}")]
    program = shlex.quote(_prefix(job, setting)[0])
    there = [f"command -v -- {program} >/dev/null", f'require $? {program} "is not there"']
    ours = [
        "HDF5_USE_FILE_LOCKING=${HDF5_USE_FILE_LOCKING:-FALSE}",
        f"OMP_NUM_THREADS={threads}",
        "PYTHONUNBUFFERED=1",
    ]  # workers of Dask, too
    return [*checked, *there, f"export {' '.join(ours)}"]


def _prefix(job: Job, setting: Setting) -> list[str]:
    """What comes before ``-m MODULE``."""
    python = [setting.python, "-P"]
    if setting.image is None:
        return python
    return [*job.resources.container, *(f"--bind={path}" for path in setting.bind), setting.image, *python]


def _words(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _step(job: Job, setting: Setting) -> list[str]:
    """The command as a job step, so that signals reach it; with several processes, a log of each besides."""
    asked = job.resources
    wait = max(setting.warning, _LEAST_WAIT)  # when all are told to stop, the first one may save longer than the others
    srun = f"srun --nodes={asked.nodes} --ntasks={asked.tasks} --cpus-per-task={asked.cpus} --kill-on-bad-exit=0 --wait={wait}"
    if asked.tasks == 1:
        return [f'{srun} "${{command[@]}}"', "code=$?"]
    tee = 'trap "" TERM INT USR1; exec tee'
    return [
        LAST_WORDS,
        f"log={LOGS}/{setting.chain}-$name.$SLURM_JOB_ID",
        f"{srun} --label bash -c '",  # the command itself is the task, because many a SLURM signals only that
        "  log=$1.rank$SLURM_PROCID.log; shift",
        f'  exec "$@" > >({tee} -a -- "$log") 2>&1',
        f'\' rank "$log" "${{command[@]}}" 2> >({tee} -- "$log.srun" >&2)',
        "code=$?",
        "case $code in 0 | 75 | 138) ;; *) last_words ;; esac",
        'rm -f -- "$log.srun"',
    ]


def _dask(job: Job, setting: Setting) -> list[str]:
    """Scheduler and workers as further steps; they do not hear the warning, which is for the command alone."""
    asked, prefix = job.resources, _words(_prefix(job, setting))
    interface = f" --interface={setting.interface}" if setting.interface else ""
    one = "srun --overlap --nodes=1 --ntasks=1 --cpus-per-task=1 --kill-on-bad-exit=0 --wait=0"
    many = f"srun --overlap --nodes={asked.nodes} --ntasks={asked.tasks} --cpus-per-task={asked.cpus} --kill-on-bad-exit=0 --wait=0"
    deaf = 'bash -c \'trap "" USR1; exec "$@"\' dask'
    log = f"{LOGS}/{setting.chain}-$name.$SLURM_JOB_ID"
    return [
        "scheduler=$here/$name.dask.json",
        'rm -f -- "$scheduler"',
        f'{one} {deaf} {prefix} -m distributed.cli.dask_scheduler --scheduler-file "$scheduler" --no-dashboard --port 0{interface} \\',
        f'  >>"{log}.scheduler.log" 2>&1 &',
        'for try in $(seq 300); do [ -s "$scheduler" ] && break; sleep 0.2; done',
        f'{many} {deaf} {prefix} -m distributed.cli.dask_worker --scheduler-file "$scheduler" --no-dashboard --nthreads 1 --no-nanny \\',
        f'  --memory-limit 0 --death-timeout 120 --local-directory "${{TMPDIR:-/tmp}}"{interface} >>"{log}.workers.log" 2>&1 &',
        f'{one} "${{command[@]}}" --scheduler "$scheduler"',
        "code=$?",
        "kill $(jobs -p) 2>/dev/null",
        'rm -f -- "$scheduler"',
    ]
