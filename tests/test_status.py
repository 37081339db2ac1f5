"""status: which predictions a config asks for, what is whole, what is of another recipe, and what was judged."""

from __future__ import annotations

import json
import os
from unittest.mock import patch

import pytest

torch = pytest.importorskip("torch")

import apply_world  # noqa: E402
from apply_world import NET, apply, config, train  # noqa: E402
from conftest import run_cli  # noqa: E402
from faults import fault  # noqa: E402

from downscale.apply import status  # noqa: E402
from downscale.apply.wanted import wanted_predictions  # noqa: E402

DROPOUT = {"members": {"of": "dropout", "number": 2}}
RIDGE = "ridge-RCM_A-perfect"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A network with dropout and a baseline, applied to all pairs."""
    root = tmp_path_factory.mktemp("status")
    with patch.dict(apply_world.MODEL, {"dropout": 0.1}):
        train(root)
    apply(root, {})
    return root


@pytest.fixture
def told(workspace, monkeypatch):
    """The status under some section ``apply``: state by prediction, and the whole."""
    monkeypatch.setattr(status, "_pairs", lambda root: (["RCM_A_perfect", "RCM_A_imperfect"], "done: RCM_A"))

    def look(**section):
        found = status.workspace_status(config(workspace, **section))
        return dict(line.split(": ", 1) for line in found["predictions"]), found

    return look


def test_members_that_are_not_begun_are_counted(told, workspace):
    states, found = told(**DROPOUT)
    assert states[f"{NET}-dropout/RCM_A_perfect"] == "not begun" and not any(name.startswith(f"{RIDGE}-") for name in states)
    assert "2 not begun" in found["counts"]
    runs = [workspace / "runs" / name for name in (NET, RIDGE)]
    assert not wanted_predictions(config(workspace, members={"of": "seeds"}).apply, runs, ["RCM_A_perfect"])


def test_seeds_that_belong_together(tmp_path):
    runs = [tmp_path / name for name in ("net-seed0", "net-seed1", "other-seed0", "ridge")]
    found = wanted_predictions(config(tmp_path, members={"of": "seeds"}).apply, runs, ["A_perfect", "A_imperfect"])
    assert list(found) == ["net-seeds/A_perfect", "net-seeds/A_imperfect"]


@pytest.mark.parametrize(
    ("section", "said", "kinds"),
    [
        ({"align": "quantile", "align_window": [2000, 2003]}, "apply.align: none -> quantile", {"imperfect"}),
        ({"significant_bits": 8}, "apply.significant_bits: None -> 8", {"perfect", "imperfect"}),
        ({"years_per_file": 5}, "apply.years_per_file: None -> 5", {"perfect", "imperfect"}),
        ({"profile": "zarr"}, "apply.profile: cf -> zarr", {"perfect", "imperfect"}),
        ({"compression": 4, "block_days": 8}, "", set()),
    ],
)
def test_predictions_of_another_recipe(told, section, said, kinds):
    states, found = told(**section)
    other = {name: text for name, text in states.items() if text.startswith("of another recipe")}
    assert {name.rpartition("_")[2] for name in other} == kinds and all(said in text for text in other.values()), states
    assert not kinds or f"{len(other)} of another recipe" in found["counts"]


def test_a_prediction_that_is_cut_short_or_gone_is_not_done(told, workspace):
    path = workspace / "predictions" / RIDGE / "RCM_A_perfect" / "pr.nc"
    whole = path.read_bytes()
    for damage in (lambda: path.write_bytes(whole[:1000]), path.unlink):
        damage()
        assert told()[0][f"{RIDGE}/RCM_A_perfect"].startswith("begun: files are missing or cut short")
        path.write_bytes(whole)
    assert told()[0][f"{RIDGE}/RCM_A_perfect"].startswith("done")


def test_a_folder_of_predictions(workspace, tmp_path):
    found = run_cli("status", workspace / "predictions" / NET)
    assert found.exit_code == 0 and f"{NET}/RCM_A_perfect: done" in found.stdout, found.stdout
    one = run_cli("status", workspace / "predictions" / NET / "RCM_A_perfect")
    assert one.exit_code == 0 and "1 done" in one.stdout
    assert run_cli("status", tmp_path).exit_code == 4
    assert run_cli("status", workspace / "predictions" / NET, "--set", "apply.compression=2").exit_code == 2


@fault("S14", "`status` says by digests, not by the times of files, whether scores are of the predictions that are there")
def test_scores_of_other_predictions(told, workspace):
    predictions = sorted((workspace / "predictions").glob("*/*/prediction.json"))
    digests = {f"{path.parent.parent.name}/{path.parent.name}": json.loads(path.read_text())["digest"] for path in predictions}
    folder = workspace / "scores"
    folder.mkdir(exist_ok=True)
    (folder / "scores.csv").write_text("")
    (folder / "recipe.json").write_text(json.dumps({"inputs": {"predictions": digests}}))
    for path in predictions:
        os.utime(path, (4e9, 4e9))
    assert told()[1]["scores"] == "done"
    (folder / "recipe.json").write_text(json.dumps({"inputs": {"predictions": {**digests, f"{NET}/RCM_A_perfect": "0"}}}))
    for path in predictions:
        os.utime(path, (1e9, 1e9))
    assert told()[1]["scores"] == "done: 1 predictions are not those that were judged: run downscale evaluate again"
