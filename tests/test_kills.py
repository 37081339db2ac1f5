"""Every stage killed at a random moment: the same command goes on, nothing lies about, and the end is that of a run without kills."""

from __future__ import annotations

import random
import signal

import pytest
from faults import fault
from kill_world import STAGES, Chain, before, compared, write_config

pytestmark = pytest.mark.slow

SEED = 20


@pytest.fixture(scope="module")
def whole(tiny_world, tmp_path_factory) -> Chain:
    """All stages but the last, never disturbed."""
    return Chain(write_config(tmp_path_factory.mktemp("kills") / "whole" / "config.yaml", tiny_world), slow=0.02).whole(STAGES[:-1])


@fault("S01", "every stage exits with 75 wherever the signal finds it, and goes on from there")
@fault("S02", "every stage, killed with `kill -9` at a random moment: the same command goes on, and the end is that of a run without kills")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_then_stopped_at_random_moments_and_nothing_to_clean(whole, tmp_path, stage):
    if stage not in whole.outcomes:
        whole.whole([stage])
    chain, reference = before(whole, stage, tmp_path / "killed"), whole.outcomes[stage][0]
    twice = chain.killed(stage, reference, [signal.SIGKILL, signal.SIGUSR1], random.Random(f"{SEED} {stage}"))
    assert 0 <= twice <= {"prepare": 2, "evaluate": 1}.get(stage, 2 * reference.units)
    assert compared(whole, chain, stage) == []
