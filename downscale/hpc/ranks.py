"""Which of several processes of one command this is, as torchrun or srun says."""

from __future__ import annotations

import functools
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from downscale.errors import ConfigError, EnvironmentMissingError
from downscale.hpc.slurm import node_address

_FIRST_PORT, _PORTS = 20_000, 20_000


@dataclass(frozen=True)
class Place:
    """One of several processes.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
        local: number of this process on its node.
        host, port: where process 0 listens.
        serving: whether somebody else (the agent of torchrun) already listens there.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    host: str = "localhost"
    port: int = 0
    serving: bool = False


def place(environment: Mapping[str, str] | None = None) -> Place:
    """This process's place.

    ``torchrun`` and everything that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT come first, then ``srun`` with more than one task.
    Without them: alone. A batch script itself is alone, whatever its number of tasks: only what srun starts is not.

    Raises:
        ConfigError: only some of the variables are set, or they are no numbers.
        EnvironmentMissingError: nobody knows the address of the node of process 0.
    """
    values = os.environ if environment is None else environment
    try:
        if "WORLD_SIZE" in values and "RANK" in values:
            rank, world = int(values["RANK"]), int(values["WORLD_SIZE"])
            if world < 2:
                return Place()
            local, serving = int(values.get("LOCAL_RANK", 0)), values.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            return Place(rank, world, local, values["MASTER_ADDR"], int(values["MASTER_PORT"]), serving)
        if int(values.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
            return Place()
        rank, world, local = (int(values[key]) for key in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))
        port = _FIRST_PORT + int(values["SLURM_JOB_ID"]) % _PORTS
        alone = values.get("SLURM_STEP_NUM_NODES") == "1"
        launched = values.get("SLURM_LAUNCH_NODE_IPADDR", "")
        host = "localhost" if alone else _reachable(first_host(values["SLURM_STEP_NODELIST"]), launched)
        return Place(rank, world, local, host, port)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"the processes of this command cannot find each other: {error}",
            where="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT or SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_STEP_NODELIST",
            hint="start with torchrun or srun, or leave these variables unset",
        ) from None


def first_host(nodes: str) -> str:
    """The first host of a SLURM node list: ``n[07-09,12],m3`` gives ``n07``."""
    first = re.split(r",(?![^\[]*\])", nodes, maxsplit=1)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


@functools.cache
def _reachable(node: str, launched: str) -> str:
    """The name of a node; where no name service has it, its address in SLURM, or that of the node whose srun started this process.

    A job's srun runs on its first node. In a container it is the only one to ask.
    """
    if _known(node):
        return node
    if address := node_address(node) or launched:
        return address
    raise EnvironmentMissingError(
        f"the processes of this command cannot find each other: nobody here knows the address of node {node}",
        where="SLURM_STEP_NODELIST",
        hint="ask your centre, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun does",
    )


def _known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
