"""The chain of stages as real processes that are killed at random moments: what is done twice, what is left, whether the end is the same.

Every unit of work that is kept (a shard, a step, days of a block, a block of rows) is told in a file, so that work done twice shows.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import netCDF4
from apply_world import contents
from conftest import EXPERIMENT
from prepare_world import tree

STAGES = ("prepare", "train", "apply", "few-shot", "evaluate")
UNITS = {"prepare": "shards", "train": "steps", "apply": "days", "few-shot": "steps", "evaluate": "blocks"}
RUN = "net"
MADE = {"prepare": "pairs.zarr", "train": "runs", "apply": "predictions", "few-shot": "few_shot", "evaluate": "scores"}
_ARGUMENTS = {
    "prepare": ["--workers", "1"],
    "train": ["--name", RUN, "--device", "cpu"],
    "apply": ["--device", "cpu"],
    "few-shot": ["--from", RUN, "--shots", "0,1", "--methods", "full,head", "--device", "cpu"],
    "evaluate": [],
}
_SLOWER = {"train": 8, "few-shot": 8}
"""Steps are many times shorter than the rest of these stages, and yet they are what is to be met."""
_MAIN = """
import os, sys, time
from pathlib import Path
stage, slow = sys.argv[1], float(os.environ["SLOW"])
told = open(os.environ["TOLD"], "a", buffering=1)

def telling(module, name, count=lambda *arguments: 1):
    plain = getattr(module, name)
    def told_too(*arguments, **options):
        found = plain(*arguments, **options)
        told.write(f"{count(*arguments)} {time.monotonic()}\\n")
        time.sleep(slow)
        return found
    setattr(module, name, told_too)

if stage == "prepare":
    import downscale.pairs.store, downscale.pairs.tasks
    downscale.pairs.store.shard_days = lambda cell_bytes: (32, 96)
    telling(downscale.pairs.tasks, "_record")
elif stage in ("train", "few-shot"):
    import torch, downscale.training.loop
    torch.set_num_threads(1)
    telling(downscale.training.loop, "_step")
elif stage == "apply":
    import torch, downscale.apply.kept
    torch.set_num_threads(1)
    telling(downscale.apply.kept.KeptBlocks, "add", lambda self, block: len(block.days))
else:
    import downscale.evaluate.blocks, downscale.evaluate.kept
    downscale.evaluate.blocks.BLOCK_BYTES = 4 * 365 * 12 * 3
    telling(downscale.evaluate.kept, "write_block")
from contextlib import contextmanager
from downscale.hpc import signals
plainly = signals.interruptible

@contextmanager
def interruptible():
    with plainly() as heard:
        told.write("0 ready\\n")
        yield heard

signals.interruptible = interruptible
from downscale.cli.app import main
sys.argv[0] = "downscale"
main()
"""


def write_config(path: Path, data: Path) -> Path:
    """One RCM and its driver, one target, a network of two epochs, a grid of three cells."""
    geometry = json.loads((data / "truth.json").read_text())["geometry"]
    boxes = {"coarse": geometry["coarse_box_edges"], "fine": 2 * geometry["target_cells"], "relaxation": geometry["relaxation_cells"]}
    text = EXPERIMENT.format(data=data, **boxes).replace("epochs: 2}", "epochs: 2, baselines: [ridge]}").replace(", {name: pr}", "")
    lines = [line for line in text.splitlines() if not line.startswith(("  RCM_B:", "  GCM_B:", "finetune:", "few_shot:"))]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([*lines, "few_shot: {on: [RCM_A/imperfect], epochs: 1}", ""]))
    return path


@dataclass
class Outcome:
    """What became of one command.

    Attributes:
        code: exit code, minus the signal for one that was killed.
        units: of work that it did.
        seconds: from when it was ready to the end.
    """

    code: int
    units: int
    seconds: float
    said: str = ""


@dataclass
class Chain:
    """A config in a folder of its own, and its commands."""

    config: Path
    slow: float = 0.0
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.config.parent / "results"

    def run(self, stage: str, *, kill: float | None = None, number: signal.Signals = signal.SIGKILL) -> Outcome:
        """One command; ``kill``: seconds after it is ready."""
        told = self.config.parent / "told"
        told.write_text("")
        environment = {
            **os.environ,
            "TOLD": str(told),
            "SLOW": str(self.slow * _SLOWER.get(stage, 1)),
            "OMP_NUM_THREADS": "1",
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
        process = subprocess.Popen([sys.executable, "-c", _MAIN, stage, str(self.config), *_ARGUMENTS[stage]], **pipes)
        while "ready" not in told.read_text() and process.poll() is None:
            time.sleep(0.01)
        started = time.monotonic()
        if kill is not None:
            time.sleep(kill)
            process.send_signal(number)
        said = process.communicate(timeout=240)[0]
        units = sum(int(line.split()[0]) for line in told.read_text().splitlines())
        outcome = Outcome(process.returncode, units, time.monotonic() - started, said)
        self.outcomes.setdefault(stage, []).append(outcome)
        return outcome

    def whole(self, stages: Sequence[str] = STAGES) -> Chain:
        """The stages, undisturbed."""
        for stage in stages:
            outcome = self.run(stage)
            assert outcome.code == 0, outcome.said
        return self

    def killed(self, stage: str, reference: Outcome, numbers: Sequence[signal.Signals], chance: random.Random) -> int:
        """One stage that gets some signals, each at a moment of its whole time, then runs to its end; the units that were done twice."""
        done = 0
        for number in numbers:
            outcome = self.run(stage, kill=chance.uniform(0.0, reference.seconds), number=number)
            assert outcome.code in (0, -number if number == signal.SIGKILL else 75), (outcome.code, outcome.said)
            done += outcome.units
        outcome = self.run(stage)
        assert outcome.code == 0, outcome.said
        return done + outcome.units - reference.units


def before(whole: Chain, stage: str, folder: Path) -> Chain:
    """A workspace in which all stages before this one are done."""
    (folder / "results").mkdir(parents=True)
    shutil.copyfile(whole.config, folder / "config.yaml")
    for done in STAGES[: STAGES.index(stage)]:
        shutil.copytree(whole.workspace / MADE[done], folder / "results" / MADE[done])
    return Chain(folder / "config.yaml", slow=0.05)


def compared(whole: Chain, chain: Chain, stage: str) -> list[str]:
    """Differences of a workspace in which this stage is done from the undisturbed one; what later stages make is taken from that."""
    later = [MADE[one] for one in STAGES[STAGES.index(stage) + 1 :]] + (["report"] if stage != "evaluate" else [])
    for name in later:
        if (whole.workspace / name).exists():
            shutil.copytree(whole.workspace / name, chain.workspace / name)
    return differences(whole.workspace, chain.workspace)


def files(workspace: Path) -> set[str]:
    """All files below a workspace; a cache of statistics is named after the store, which names its workspace."""
    found = {str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file()}
    return {path for path in found if not path.startswith("pairs.statistics/")}


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two workspaces: files that only one has, or contents, but for times, hosts and the name of the workspace."""
    found = sorted(f"only one has {path}" for path in files(one) ^ files(other))
    a, b = (tree(root / "pairs.zarr") for root in (one, other))
    found += [f"pairs.zarr/{path}" for path in a if a[path] != b.get(path)]
    for path in sorted(files(one) & files(other)):
        if path.startswith("pairs.zarr"):
            continue
        if path.endswith((".safetensors", ".csv")) and _plain(one / path) != _plain(other / path):
            found.append(path)
    a, b = ({**contents(root / "predictions"), **_scores(root / "scores")} for root in (one, other))
    found += sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    found += [f"few_shot: {name}" for name, cell in _cells(one).items() if cell != _cells(other).get(name)]
    return found


def _plain(path: Path) -> bytes | list[list[str]]:
    """A file; a table without what took how long."""
    if path.suffix != ".csv":
        return path.read_bytes()
    rows = [line.split(",") for line in path.read_text().splitlines()]
    drop = {number for number, name in enumerate(rows[0] if rows else []) if "seconds" in name}
    return [[word for number, word in enumerate(row) if number not in drop] for row in rows]


def _scores(folder: Path) -> dict[str, str]:
    """The values of all NetCDF files of the scores; words are kept in them as objects, which have no bytes of their own."""
    found = {}
    for path in folder.rglob("*.nc"):
        with netCDF4.Dataset(path) as file:
            file.set_auto_maskandscale(False)
            found |= {f"scores/{path.name}:{name}": str(one[...].tolist()) for name, one in file.variables.items()}
    return found


def _cells(workspace: Path) -> dict[str, dict]:
    found = {path.name: json.loads(path.read_text()) for path in workspace.glob("few_shot/*/cells/*.json")}
    return {name: {key: value for key, value in cell.items() if key != "seconds"} for name, cell in found.items()}
