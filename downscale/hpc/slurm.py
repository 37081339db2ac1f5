"""SLURM's commands: submit, ask, cancel. Whatever a site forbids or lacks is no answer, never a traceback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from downscale.errors import EnvironmentMissingError

_SECONDS = 60.0
_WORD = re.compile(r"(\w+)=(\S*)")
_REFUSALS = (
    ("contact|timed out|respond|connect", "SLURM's controller does not answer: see sinfo, and try again later"),
    ("dependency", "--after has to name a job that SLURM still knows: see squeue"),
    ("", "see hpc.jobs, hpc.account and the site profile (docs/howto/site-profiles.md)"),
)
"""What to do where SLURM refuses a job, by a word of its answer."""


@dataclass(frozen=True)
class Standing:
    """What SLURM says of a job, or of a task of an array.

    Attributes:
        state: in SLURM's words: PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT ...
        reason: why it waits, or why it ended.
        waits_for: what is left of its dependency.
        nodes: where it runs or ran.
    """

    state: str
    reason: str = ""
    waits_for: str = ""
    nodes: str = ""


def require_slurm() -> None:
    """EnvironmentMissingError where there is no SLURM."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise EnvironmentMissingError(
            f"there is no SLURM on this machine: {', '.join(missing)} not found",
            where="PATH",
            hint="go to a login node of the cluster; --print shows the scripts anywhere",
        )


def sbatch(script: Path, arguments: Sequence[str], *, folder: Path) -> str:
    """Submit a script and return the number of its job.

    Args:
        script: its path.
        arguments: further options.
        folder: that the job runs in, and that its log is relative to.

    Raises:
        EnvironmentMissingError: SLURM refuses it, with its own words.
    """
    answer = _run(["sbatch", "--parsable", *arguments, str(script)], folder=folder)
    number = answer.stdout.strip().split(";")[0]
    if answer.returncode != 0 or not number.isdigit():
        raise EnvironmentMissingError(
            f"SLURM refused the job: {_first(answer.stderr) or 'without a word'}",
            where=str(script),
            hint=next(hint for word, hint in _REFUSALS if re.search(word, answer.stderr, re.IGNORECASE)),
        )
    return number


def scancel(jobs: Sequence[str]) -> str:
    """Cancel jobs; what SLURM says against it, empty where it says nothing."""
    return _first(_run(["scancel", *jobs]).stderr) if jobs else ""


def queue(folder: Path) -> dict[str, Standing] | None:
    """This user's jobs that run in a folder by number, tasks of arrays as ``12_3``; None where SLURM does not answer.

    The folder tells them from jobs of others that got the same numbers, as after a new start of the cluster.
    """
    answer = _run(["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r|%E|%N|%Z"])
    if answer.returncode != 0:
        return None
    found, here = {}, os.path.realpath(folder)
    for line in answer.stdout.splitlines():
        number, state, reason, waits_for, nodes, where = (*line.split("|", 5), "", "", "", "", "")[:6]
        if where in ("", here):
            found[number] = Standing(state, _no(reason), _no(waits_for), nodes)
    return found


def history(jobs: Iterable[str], folder: Path) -> dict[str, Standing]:
    """What SLURM remembers of jobs that may have left the queue: by sacct, else by scontrol; fewer than asked for where it does not.

    The folder is what it is for queue(): accounting keeps jobs for years, and numbers begin anew.
    """
    wanted = sorted(set(jobs))
    if not wanted:
        return {}
    found = _sacct(wanted, os.path.realpath(folder))
    for job in {job for job in wanted if not any(_belongs(one, job) for one in found)}:
        found |= _scontrol(job)
    return found


def _belongs(number: str, job: str) -> bool:
    return number == job or number.startswith(f"{job}_")


def _sacct(jobs: Sequence[str], here: str) -> dict[str, Standing]:
    fields = "JobID,State,Reason,NodeList,ExitCode,WorkDir"
    answer = _run(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(jobs)}", f"--format={fields}"])
    found = {}
    for line in answer.stdout.splitlines() if answer.returncode == 0 else ():
        number, state, reason, nodes, code, where = (*line.split("|", 5), "", "", "", "", "")[:6]
        if state and where in ("", here):
            state = state.split()[0]  # "CANCELLED by 1000"
            found[number] = Standing(state, _no(reason) or (_code(code) if state == "FAILED" else ""), "", _no(nodes))
    return found


def _code(text: str) -> str:
    """``9:0`` is an exit code, ``0:9`` a signal."""
    code, _, number = text.partition(":")
    return f"signal {number}" if number not in ("", "0") else f"exit code {code}" if code else ""


def _scontrol(job: str) -> dict[str, Standing]:
    answer = _run(["scontrol", "--oneliner", "show", "job", job])
    found = {}
    for line in answer.stdout.splitlines() if answer.returncode == 0 else ():
        facts: Mapping[str, str] = dict(_WORD.findall(line))
        number = f"{facts['ArrayJobId']}_{facts.get('ArrayTaskId', '')}" if "ArrayJobId" in facts else facts.get("JobId", job)
        nodes = facts.get("NodeList", "")
        found[number] = Standing(facts.get("JobState", ""), _no(facts.get("Reason", "")), _no(facts.get("Dependency", "")), _no(nodes))
    return found


def node_address(node: str) -> str:
    """The address that SLURM knows a node by; empty where it does not answer."""
    answer = _run(["scontrol", "--oneliner", "show", "node", node])
    return dict(_WORD.findall(answer.stdout)).get("NodeAddr", "") if answer.returncode == 0 else ""


def _run(command: Sequence[str], *, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command of SLURM; what belongs to a job that this may run in does not become part of another one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, cwd=folder, env=environment, check=False, start_new_session=True
        )  # a session of its own: Ctrl-C does not end it between what it does and what it says
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error}")


def _no(word: str) -> str:
    return "" if word in ("None", "(null)", "(None)", "none", "N/A", "None assigned") else word


def _first(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: ").removeprefix("error: ") if lines else ""
