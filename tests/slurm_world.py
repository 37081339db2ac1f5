"""A SLURM on the loopback interface, for tests: no systemd, no cgroups, no database, own folder, own ports, own keys.

Its nodes are daemons on this machine: two that jobs go to by default, and a third one from which jobs of the partition ``urgent`` drive
those of ``shared`` away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(tempfile.gettempdir()) / "downscale-slurm"
_NODES = ("n1", "n2", "n3")
_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol", "scancel")
_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
SlurmctldPort=26817
SrunPortRange=26900-27400
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
InactiveLimit=0
KillWait=20
MinJobAge=3600
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[26818-26820] CPUs=4 RealMemory=32000 State=UNKNOWN
PartitionName=debug Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=shared Nodes=n3 MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n3 MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


def _program(name: str) -> str | None:
    """Where a program is; daemons often lie in a folder that no user has in the path."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def why_not() -> str:
    """Why SLURM cannot be started here; empty where it can."""
    missing = [name for name in _PROGRAMS if _program(name) is None]
    if missing:
        return f"SLURM is not installed: {', '.join(missing)} not found"
    return "" if os.geteuid() == 0 else "only root can start SLURM's daemons"


@contextmanager
def running_slurm() -> Iterator[dict[str, str]]:
    """Start it, or join one that another test process has started; the last one to leave ends it. Yields what the environment needs.

    Skips the test where it cannot be started.
    """
    if reason := why_not():
        pytest.skip(reason)
    users = ROOT / "users"
    users.mkdir(parents=True, exist_ok=True)
    me = users / str(os.getpid())
    environment = {"SLURM_CONF": str(ROOT / "slurm.conf")}
    with _alone():
        others = [path for path in users.iterdir() if _alive(int(path.name))]
        for gone in set(users.iterdir()) - set(others):
            gone.unlink()
        me.touch()
        if not others or not _answers(environment):
            _end_daemons()
            problem = _start(environment)
            if problem:
                _end_daemons()
                me.unlink()
                pytest.skip(f"SLURM does not start here: {problem}")
    try:
        yield environment
    finally:
        with _alone():
            me.unlink()
            if not any(_alive(int(path.name)) for path in users.iterdir()):
                _end_daemons()


@contextmanager
def _alone() -> Iterator[None]:
    with (ROOT / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _start(environment: dict[str, str]) -> str:
    """Start the daemons afresh; what went wrong, or an empty text."""
    for name in ("state", "spool"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
        (ROOT / name).mkdir()
    ROOT.chmod(0o755)
    key = ROOT / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (ROOT / "slurm.conf").write_text(_CONF.format(root=ROOT, host=socket.gethostname().split(".")[0]))
    files = [f"--{name}={ROOT}/munge.{ending}" for name, ending in (("socket", "sock"), ("pid-file", "pid"), ("log-file", "log"))]
    seed = f"--seed-file={ROOT}/munge.seed"
    nodes = [["slurmd", "-N", node] for node in _NODES]
    for command in (["munged", "--force", f"--key-file={key}", seed, *files], ["slurmctld", "-c"], *nodes):
        command[0] = _program(command[0]) or command[0]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            return f"{command[0]}: {done.stderr.strip()[-300:]}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if _answers(environment) == f"{len(_NODES)} idle":
            return ""
        time.sleep(0.2)
    return f"the nodes are not idle; see {ROOT}/slurmctld.log"


def _answers(environment: dict[str, str]) -> str:
    """Number and state of the nodes; empty where nobody answers."""
    command = ["timeout", "10", "sinfo", "-h", "-o", "%D %t"]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False).stdout.strip()


def _end_daemons() -> None:
    for name in (*(f"slurmd-{node}" for node in _NODES), "slurmctld", "munge"):
        try:
            pid = int((ROOT / f"{name}.pid").read_text())
            os.kill(pid, signal.SIGTERM)
        except (OSError, ValueError):
            continue
        deadline = time.monotonic() + 20
        while _alive(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        (ROOT / f"{name}.pid").unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
