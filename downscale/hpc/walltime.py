"""When the job that this process runs in will be ended by its scheduler."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from datetime import datetime

log = logging.getLogger(__name__)
_ASK_SECONDS = 10.0


def job_end() -> float | None:
    """Seconds since 1970 at which SLURM ends this job; None outside a job or where nobody says.

    ``SLURM_JOB_END_TIME`` is set by SLURM 22.05 and later; without it ``squeue`` is asked once.
    """
    said = os.environ.get("SLURM_JOB_END_TIME", "")
    if said.isdigit() and int(said) > 0:
        return float(said)
    job = os.environ.get("SLURM_JOB_ID", "")
    return _ask(job) if job.isdigit() else None


def _ask(job: str) -> float | None:
    try:
        command = ["squeue", "--noheader", "--jobs", job, "--format", "%e"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True).stdout.strip()
        return datetime.fromisoformat(answer).timestamp()
    except (OSError, ValueError, subprocess.SubprocessError):
        log.info("the end of job %s is not known: without a signal from the scheduler it is not stopped in time", job)
        return None


def seconds_left(end: float | None) -> float:
    """Seconds until ``end``, from job_end(); infinite when it is None."""
    return float("inf") if end is None else end - time.time()
