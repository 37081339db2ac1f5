"""Work lost to kills at random moments, over all stages: ``python tests/benchmarks/kills.py [KILLS] [SEED] [STAGE...]``.

The chain of tests/kill_world.py on the tiny virtual climate. Each stage is killed KILLS / 5 times with SIGKILL, and told to stop as often
by SIGUSR1, at moments spread evenly over its time, each time in a fresh workspace, and run again to its end. Every unit of work takes 50 ms
longer, a training step 400, so that moments within units are met. Each workspace is then compared with that of a chain that was never
disturbed, file by file.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DOWNSCALE_CACHE"] = "off"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import CHANNELS
from kill_world import STAGES, UNITS, Chain, before, compared, write_config

from downscale.virtual.stage import write_sample_data


def main() -> None:
    words = sys.argv[1:]
    kills, seed, stages = int((words or ["20"])[0]), int((words[1:] or ["0"])[0]), words[2:] or STAGES
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    write_sample_data(folder / "data", size="tiny", years=[(1995, 1997)], channels=CHANNELS, workers=1)
    whole = Chain(write_config(folder / "whole" / "config.yaml", folder / "data"), slow=0.05)
    whole.whole(STAGES[: max(STAGES.index(stage) for stage in stages) + 1])
    print("| stage | undisturbed | killed: done twice | told to stop: done twice | differs in the end |")
    print("|---|---|---|---|---|")
    chance = random.Random(seed)
    for stage in stages:
        reference, words, apart = whole.outcomes[stage][0], [], set()
        for number in (signal.SIGKILL, signal.SIGUSR1):
            lost = []
            while len(lost) < kills // len(STAGES):
                chain = before(whole, stage, folder / f"{stage}-{number.name}-{len(lost)}-{chance.random()}")
                twice = chain.killed(stage, reference, [number], chance)
                apart |= set(compared(whole, chain, stage))
                if chain.outcomes[stage][0].code:
                    lost.append(twice)
                shutil.rmtree(chain.config.parent)
            words.append(", ".join(map(str, sorted(lost))))
        first = f"{reference.units} {UNITS[stage]}, {reference.seconds:.1f} s"
        print(f"| {stage} | {first} | {' | '.join(words)} | {sorted(apart) or 'nothing'} |", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
