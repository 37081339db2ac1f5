"""Processes that train the tiny world together, forked from one that has loaded everything already."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from pathlib import Path
from unittest.mock import patch

from training_world import make_config, make_store

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ddp_world", "downscale.training.modes"])


def work(rank: int, log: Path, workspace: Path, how: str, model: dict, train: dict, shared: dict[str, str]) -> None:
    """One process: train, and end with the exit code that the command line would give."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    os.environ.update(shared, RANK=str(rank), LOCAL_RANK=str(rank))
    import torch

    from downscale.training import distributed, loop, modes, session

    torch.set_num_threads(1)
    session.SAVE_SECONDS = 0.0
    steps, plain, served = 0, loop._step, distributed._served
    if how == "alone" and rank == 1:
        os._exit(3)

    def step(*arguments):
        nonlocal steps
        result, steps = plain(*arguments), steps + 1
        if how == "slow":
            os.write(1, b"step\n")
            time.sleep(0.05)
        if how == "fail" and rank == 1 and steps == 3:
            raise ValueError("this process is broken")
        return result

    def waiting(*arguments, **options):
        os.write(1, b"waits\n")
        return served(*arguments, **options)

    config = make_config(workspace, model=model, train=train)
    try:
        with (
            patch.object(modes.PairStore, "open", classmethod(lambda cls, *arguments: make_store())),
            patch.object(loop, "_step", step),
            patch.object(distributed, "_served", waiting),
            patch.object(modes, "SAVE_SECONDS", 0.0),
        ):
            modes.train_run(config, device="cpu")
    except Exception as error:
        os.write(1, f"{type(error).__name__} {str(error).splitlines()[0]}\n".encode())
        os._exit(getattr(error, "code", 1))
    os._exit(0)


class Crew:
    """The processes of one training."""

    def __init__(self, workspace: Path, world: int, *, how: str = "", model: dict | None = None, **train: object) -> None:
        train = {"epochs": 2, "batch_size": 48, "baselines": [], **train}
        model = {"backbone": "none", "dropout": 0.0, "width": 4, **(model or {})}
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        self.logs = [workspace.with_name(f"{workspace.name}-{time.monotonic_ns()}-{rank}.log") for rank in range(world)]
        self.processes = [
            CONTEXT.Process(target=work, args=(rank, self.logs[rank], workspace, how, model, train, shared)) for rank in range(world)
        ]
        for process in self.processes:
            process.start()

    def said(self, rank: int) -> str:
        """All that a process has written so far."""
        return self.logs[rank].read_text() if self.logs[rank].exists() else ""

    def after(self, steps: int, rank: int = 1, seconds: float = 60) -> None:
        """Wait until a slow process has made some steps."""
        deadline = time.monotonic() + seconds
        while self.said(rank).count("step\n") < steps:
            assert self.processes[rank].is_alive() and time.monotonic() < deadline, self.said(rank)
            time.sleep(0.01)

    def end(self, seconds: float = 120) -> list[int | None]:
        """Exit codes, minus the signal for a killed one; None for one that lived longer than it may, and is killed."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return codes
