"""downscale check also tries what finetune and few-shot would do, and counts the days that are read for a day."""

from __future__ import annotations

import json

import pytest
from conftest import run_cli

pytest.importorskip("torch")


def check(config, *overrides):
    options = [part for one in overrides for part in ("--set", one)]
    return run_cli("check", config, "--json", "--workers", "1", *options)


def test_the_ways_to_go_on_are_tried_too(experiment):
    result = check(experiment(), "model.days_before=1", "train.stream=always", "train.buffer_days=8")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)["summary"]
    assert said["training"]["finetune"].startswith("full on RCM_B/imperfect, days: train 3")
    assert "days tried, loss" in said["training"]["finetune"]
    assert "validation 71; " in said["training"]["few-shot"]
    assert said["memory (training)"]["training and validation days"].endswith("kB")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["few_shot.shots=3", "finetune=null"], "few-shot: 3 whole years wanted, the training days hold 1"),
        (["finetune.on=[RCM_A/perfect]", "finetune.replay=0.5"], "nothing to replay"),
        (["finetune.on=[GCM_B/perfect]"], "GCM_B"),
    ],
)
def test_what_they_would_stop_at_is_told(experiment, overrides, message):
    result = check(experiment(), *overrides)
    assert result.exit_code in (2, 4)
    assert message in result.output
