"""When the job that this process runs in will be ended by its scheduler, and whether another one has ended."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from datetime import datetime

log = logging.getLogger(__name__)
_ASK_SECONDS = 10.0
_STANDING = {"SUSPENDED", "STOPPED"}
_AT_WORK = {"RUNNING", "COMPLETING", "SIGNALING", "RESIZING", *_STANDING}


def job_end() -> float | None:
    """Seconds since 1970 at which SLURM ends this job; None outside a job or where nobody says.

    ``SLURM_JOB_END_TIME`` where SLURM sets it (22.05.8 does not); without it ``squeue`` is asked once.
    """
    said = os.environ.get("SLURM_JOB_END_TIME", "")
    if said.isdigit() and int(said) > 0:
        return float(said)
    job = own_job()
    return _ask(job) if job else None


def own_job() -> str:
    """The job that this process runs in, as squeue knows it; empty outside one.

    One task of an array has the number of the whole array for its own, so tasks go by ARRAY_TASK.
    """
    whole, task = os.environ.get("SLURM_ARRAY_JOB_ID", ""), os.environ.get("SLURM_ARRAY_TASK_ID", "")
    if whole.isdigit() and task.isdigit():
        return f"{whole}_{task}"
    job = os.environ.get("SLURM_JOB_ID", "")
    return job if job.isdigit() else ""


def _ask(job: str) -> float | None:
    try:
        command = ["squeue", "--noheader", "--jobs", job, "--format", "%e"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True).stdout.strip()
        return datetime.fromisoformat(answer).timestamp()
    except (OSError, ValueError, subprocess.SubprocessError):
        log.info("the end of job %s is not known: without a signal from the scheduler it is not stopped in time", job)
        return None


def has_ended(job: str, restart: str = "") -> bool:
    """Whether SLURM has ended a job, or begun it anew since; False where that cannot be known.

    Args:
        job: as own_job() gives it.
        restart: the SLURM_RESTART_COUNT that it had.
    """
    if job == own_job():
        return restart != os.environ.get("SLURM_RESTART_COUNT", "")
    states = _states(job)
    return bool(states) and not states & _AT_WORK


def is_suspended(job: str) -> bool:
    """Whether SLURM has a job wait that has begun: its processes stand still; False where that cannot be known."""
    states = _states(job)
    return bool(states) and states <= _STANDING


def _states(job: str) -> set[str]:
    command = ["squeue", "--noheader", "--states=all", "--jobs", job, "--format", "%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return set()
    return set(answer.stdout.split())


def seconds_left(end: float | None) -> float:
    """Seconds until ``end``, from job_end(); infinite when it is None."""
    return float("inf") if end is None else end - time.time()
