"""The grid of few-shot learning curves: scores, what follows from them, and the command from end to end on the tiny world."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import run_cli  # noqa: E402
from faults import fault  # noqa: E402
from training_world import days_of, make_config, make_store  # noqa: E402

from downscale.apply import curve  # noqa: E402
from downscale.apply.cells import Cell  # noqa: E402
from downscale.apply.curve import Grid, run_grid  # noqa: E402
from downscale.cli.few_shot import parse_shots  # noqa: E402
from downscale.errors import ConfigError, OutputExistsError, Stopped  # noqa: E402
from downscale.evaluate.few_shot import Scorer, relative_error, screen, summarise, write_summary  # noqa: E402
from downscale.evaluate.selection import TimeTable  # noqa: E402
from downscale.hpc.locks import folder_lock  # noqa: E402
from downscale.report.few_shot import draw_curve  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.shots import choose_years, count_draws, whole_years  # noqa: E402

pytestmark = pytest.mark.slow

RUN = "resunet-RCM_A-perfect"
NET = {"backbone": "none", "dropout": 0.0, "width": 4}


# --- years ------------------------------------------------------------------------------------------------------------------


def test_the_first_draw_is_even_and_others_are_random_with_the_same_shares():
    days = days_of([*range(2000, 2010), *range(2050, 2060)])
    assert choose_years(days, 4) == choose_years(days, 4, draw=0)
    draws = [choose_years(days, 4, draw=draw) for draw in range(1, 6)]
    assert all(sum(year < 2020 for year in chosen) == 2 for chosen in draws)
    assert all(len(set(chosen)) == 4 for chosen in draws)
    assert len({tuple(chosen) for chosen in [*draws, choose_years(days, 4)]}) == 6
    assert draws == [choose_years(days, 4, draw=draw) for draw in range(1, 6)]


def test_no_draw_repeats_another_while_there_are_others():
    days = days_of([2000, 2001, 2002, 2050])
    assert (count_draws(days, 1), count_draws(days, 2), count_draws(days, 3), count_draws(days, 4)) == (3, 3, 3, 1)
    assert sorted(choose_years(days, 1, draw=draw)[0] for draw in range(3)) == [2000, 2001, 2002]
    assert choose_years(days, 4, draw=1) == choose_years(days, 4)
    with pytest.raises(ConfigError, match="5 whole years wanted"):
        count_draws(days, 5)


def test_whole_years_leave_broken_ones_out():
    days = days_of([2000, 2001, 2002])
    assert whole_years(days[5:]).tolist() == [2001, 2002]


# --- scores -----------------------------------------------------------------------------------------------------------------


def scorer(years=(2000, 2001), targets=("tas",), seed=0):
    days = days_of(years)
    truth = np.random.default_rng(seed).standard_normal((len(days), len(targets), 2, 3)).astype(np.float32)
    truth[:, :, 0, 0] = np.nan
    return Scorer(truth, targets, TimeTable(days, "noleap"), np.ones((2, 3)))


def test_scores_by_hand():
    judge = scorer()
    found = judge(judge.truth + np.float32(2.0))["tas"]
    assert found["abs_bias"] == pytest.approx(2.0, abs=1e-5)
    assert found["w1"] == pytest.approx(2.0, abs=1e-5)
    assert found["abs_p99_bias"] == pytest.approx(2.0, abs=1e-5)
    assert found["rmse"] == pytest.approx(2.0, abs=1e-5)
    assert found["std_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert math.isnan(found["change_captured"])
    half = judge(judge.truth * np.float32(0.5))["tas"]
    assert half["std_ratio"] == pytest.approx(0.5, abs=1e-5)


def test_bias_of_both_signs_does_not_cancel_and_missing_days_count_for_nobody():
    judge = scorer()
    fields = judge.truth.copy()
    fields[:, 0, 0, 1] += 1.0
    fields[:, 0, 0, 2] -= 1.0
    fields[3] = np.nan
    assert judge(fields)["tas"]["abs_bias"] == pytest.approx(2 / 5, abs=1e-5)


def test_area_counts():
    judge = scorer()
    fields = judge.truth.copy()
    fields[:, 0, 1, 1] += 3.0
    land = np.zeros((2, 3))
    land[1, 1] = 1.0
    assert Scorer(judge.truth, ("tas",), judge.table, land)(fields)["tas"]["w1"] == pytest.approx(3.0, abs=1e-5)


def test_captured_change_by_hand():
    judge = scorer((2000, 2001, 2050, 2051))
    late = judge.table.year > 2020
    judge.truth[late] += 4.0
    fields = judge.truth.copy()
    fields[late] -= 1.0
    change = np.nanmean(judge.truth[late]) - np.nanmean(judge.truth[~late])
    assert judge(fields)["tas"]["change_captured"] == pytest.approx((change - 1.0) / change, abs=1e-4)


# --- the table --------------------------------------------------------------------------------------------------------------


def cell(method, shots, w1, *, draw=0, seed=0, source=None, **more):
    scores = {"tas": {"abs_bias": w1, "w1": w1, "abs_p99_bias": w1, "std_ratio": 1.0, "rmse": w1, "change_captured": math.nan}}
    before = None if source is None else {"tas": {**scores["tas"], "w1": source}}
    facts = {"method": method, "shots": shots, "draw": draw, "seed": seed, "parameters": 7, "seconds": 1.0}
    return {**facts, "scores": scores, "source_scores": before, **more}


CELLS = [
    cell("zero_shot", 0, 2.0, source=1.0),
    cell("full", 1, 1.2, source=1.0),
    cell("full", 1, 1.0, draw=1, source=1.2),
    cell("full", 4, 0.6, source=1.5),
    cell("scratch", 1, 3.0),
    cell("scratch", 4, 1.0),
]


def test_the_table_by_hand():
    summary = summarise(CELLS)
    rows = {(row["method"], row["shots"]): row for row in summary.rows}
    full = rows["full", 1]
    assert (full["cells"], full["error"], full["error_low"], full["error_high"]) == (2, pytest.approx(0.55), 0.5, pytest.approx(0.6))
    assert full["tas_w1"] == pytest.approx(1.1)
    assert full["forgetting"] == pytest.approx(0.1)
    assert rows["full", 4]["forgetting"] == pytest.approx(0.5)
    assert math.isnan(rows["scratch", 1]["forgetting"])
    # scratch comes down from 1.5 at 1 year to 0.5 at 4 years: 0.55 after 3.85 years
    assert full["data_equivalence"] == pytest.approx(3.85)
    assert math.isinf(rows["full", 4]["data_equivalence"])
    assert rows["zero_shot", 0]["data_equivalence"] == pytest.approx(2.5)
    assert summary.best == {0: "zero_shot", 1: "full", 4: "full"}


def test_n90_by_hand():
    """The gain ends at 0.3 (full, 4 years): 90 % of it is 0.37; full is at 0.55 after 1 year and at 0.3 after 4."""
    summary = summarise(CELLS)
    assert summary.n90["full"] == pytest.approx(1 + 3 * (0.55 - 0.37) / 0.25)
    assert math.isinf(summary.n90["scratch"])
    assert summary.curve("full")[0] == (0, 1.0, 1.0, 1.0)
    assert [point[0] for point in summary.curve("scratch")] == [1, 4]


def test_no_gain_has_no_n90_and_no_shots_neither():
    assert math.isnan(summarise([CELLS[0], cell("full", 1, 2.5)]).n90["full"])
    assert summarise(CELLS[:1]).n90 == {}


def test_the_error_counts_every_target_alike():
    start = {"tas": {"w1": 2.0}, "pr": {"w1": 0.1}}
    assert relative_error({"tas": {"w1": 1.0}, "pr": {"w1": 0.1}}, start) == pytest.approx(0.75)


def test_files_screen_and_plot(tmp_path):
    summary = summarise(CELLS)
    write_summary(tmp_path, summary, CELLS)
    with (tmp_path / "table.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [row["method"] for row in table] == ["zero_shot", "full", "scratch", "full", "scratch"]
    assert float(table[1]["error"]) == pytest.approx(0.55)
    with (tmp_path / "cells.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sum(row["on"] == "source" for row in rows) == 4 * 6
    assert len({(row["method"], row["draw"]) for row in rows if row["shots"] == "1"}) == 3
    lines = screen(summary)
    assert len({len(line) for line in lines}) == 1
    assert "> 4" in lines[4]
    draw_curve(tmp_path / "c.png", {one: summary.curve(one) for one in ("full", "scratch")}, {"zero_shot": 1.0}, summary.n90, title="t")
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("text", ["", "a", "1,-2", "1.5", "²"])
def test_shots_that_are_no_numbers_are_refused(text):
    with pytest.raises(ConfigError, match="--shots"):
        parse_shots(text)


def test_shots_are_sorted_and_count_once():
    assert parse_shots(" 5,1, 1,0") == [0, 1, 5]


# --- the grid ---------------------------------------------------------------------------------------------------------------


def test_cells_of_a_grid():
    cells = Grid([1, 6], draws=2, seeds=2).cells(["zero_shot", "full", "ridge"], 3, {1: 6, 6: 1}.get)
    assert cells[0] == Cell("zero_shot", 0, 0, 3)
    names = [one.name for one in cells]
    assert len(names) == len(set(names)) == 1 + (4 + 2) + (2 + 1)
    assert {one.seed for one in cells if one.method == "full"} == {3, 4}
    assert {one.draw for one in cells if one.shots == 6} == {0}


def make(workspace, **changes):
    few = {"epochs": 2, "shots": 1, **changes}
    return make_config(workspace, few_shot=few, train={"epochs": 2, "baselines": [], "batch_size": 8}, model=NET, normalise={})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("few_shot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: make_store()))
        modes.train_run(make(workspace), device="cpu")
    return workspace


@pytest.fixture
def workspace(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(curve.PairStore, "open", classmethod(lambda cls, *arguments: make_store()))
    shutil.copytree(trained, tmp_path / "w")
    return tmp_path / "w"


def go(workspace, grid, config=None, **options):
    def judge(store, group):
        return Scorer.of(store, group, 1)

    return run_grid(config or make(workspace), grid, source_run=RUN, scorer=judge, device="cpu", **options)


ALL = ["zero_shot", "gcm_align", "full", "head", "film_norm", "input_adapter", "calibration", "replay", "scratch", "ridge"]


def test_every_method_once_and_then_nothing_left_to_do(workspace):
    calls = []
    result = go(workspace, Grid([1]), progress=lambda *told: calls.append(told))
    assert sorted({one["method"] for one in result["cells"]}) == sorted(ALL)
    assert len(calls) == len(ALL)
    found = {one["method"]: one for one in result["cells"]}
    assert found["zero_shot"]["parameters"] == 0
    assert found["zero_shot"]["years"] == []
    assert len(found["full"]["years"]) == 1
    moved = {method: one["parameters"] for method, one in found.items()}
    assert 0 < moved["head"] < moved["film_norm"] < moved["full"] == moved["scratch"] == moved["replay"]
    assert moved["calibration"] == 2 * 2 * 80
    assert found["full"]["scores"] != found["head"]["scores"] != found["zero_shot"]["scores"]
    assert found["full"]["source_scores"] != found["zero_shot"]["source_scores"]
    assert found["scratch"]["source_scores"] is None
    assert found["ridge"]["scores"]["tas"]["w1"] < found["scratch"]["scores"]["tas"]["w1"]
    assert [path.name for path in result["artefact"].iterdir()] == ["cells"]
    assert found["gcm_align"]["scores"] != found["zero_shot"]["scores"]
    assert not (workspace / "pairs.statistics").exists()
    again = go(workspace, Grid([1]), progress=lambda *told: calls.append(told))
    assert len(calls) == len(ALL)
    assert json.dumps(again["cells"]) == json.dumps(result["cells"])
    more = go(workspace, Grid([1, 2], methods=["full"]), progress=lambda *told: calls.append(told))
    assert len(calls) == len(ALL) + 1
    assert [one["method"] for one in more["cells"]] == ["zero_shot", "full", "full"]


def test_a_cell_is_what_train_makes(workspace, monkeypatch):
    """The same years, settings and seed give the scores of a run of train --mode few-shot."""
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: make_store()))
    found = {one["method"]: one for one in go(workspace, Grid([2], methods=["full", "head", "calibration"]))["cells"]}
    for method in ("full", "head", "calibration"):
        section = {"method": method, "shots": 2} | ({} if method == "calibration" else {"epochs": 2})
        config = make_config(
            workspace, few_shot={"on": ["RCM_B/imperfect"]}, train={"epochs": 2, "baselines": [], "batch_size": 8}, model=NET
        )
        options = {"on": ["RCM_B/imperfect"], "learning_rate": 1e-3, **section}
        if method == "calibration":
            del options["learning_rate"]
        config = config.model_copy(update={"few_shot": type(config.few_shot).model_validate(options)})
        run = modes.load_run(modes.train_run(config, mode="few-shot", source_run=RUN, device="cpu", name=f"run-{method}")["artefact"])
        store = make_store()
        bench = curve._bench(config, store, run, "cpu")
        scores = Scorer.of(store, "RCM_B", 1)(curve.emulate(bench, run.emulator, "RCM_B/imperfect"))
        for target, values in scores.items():
            assert values == pytest.approx(found[method]["scores"][target], rel=1e-5, nan_ok=True)


def test_draws_and_seeds_differ(workspace):
    cells = go(workspace, Grid([1], draws=2, seeds=2, methods=["full"]))["cells"][1:]
    assert [(one["draw"], one["seed"]) for one in cells] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({json.dumps(one["scores"]) for one in cells}) == 4
    assert cells[0]["years"] == cells[1]["years"]


def test_a_stopped_grid_goes_on_and_ends_in_the_same_numbers(workspace, tmp_path):
    shutil.copytree(workspace, tmp_path / "other")
    whole = go(tmp_path / "other", Grid([1], methods=["full", "head"]))["cells"]

    def terminate(done, total, note):
        if note.startswith("head"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        go(workspace, Grid([1], methods=["full", "head"]), progress=terminate)
    folder = workspace / "few_shot" / f"{RUN}-RCM_B-imperfect"
    assert sorted(path.name.partition("-")[0] for path in (folder / "cells").iterdir()) == ["full", "zero_shot"]
    assert list((folder / "state").rglob("*.safetensors"))
    rest = go(workspace, Grid([1], methods=["full", "head"]))["cells"]
    assert json.dumps([one["scores"] for one in rest]) == json.dumps([one["scores"] for one in whole])


def test_cells_of_another_recipe_and_damaged_ones(workspace):
    result = go(workspace, Grid([1], methods=["calibration"]))
    path = result["artefact"] / "cells" / "calibration-1y-draw0-seed0.json"
    path.write_text("{")
    assert json.dumps(go(workspace, Grid([1], methods=["calibration"]))["cells"][1]["scores"]) == json.dumps(result["cells"][1]["scores"])
    go(workspace, Grid([1], methods=["full"]))
    other = make(workspace, learning_rate=5e-3)
    with pytest.raises(OutputExistsError) as caught:
        go(workspace, Grid([1], methods=["full"]), other)
    assert any("learning_rate" in line for line in caught.value.findings)
    replaced = go(workspace, Grid([1], methods=["full"]), other, overwrite=True)["cells"]
    assert replaced[1]["recipe"]["settings"]["learning_rate"] == 5e-3


def test_dry_run_writes_nothing(workspace):
    result = go(workspace, Grid([1, 2]), dry_run=True)
    assert result["artefact"] is None
    assert result["to do"] == len(result["cells"]) == 2 + 2 * (len(ALL) - 2)
    assert not (workspace / "few_shot").exists()


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid([1], methods=["lora"]), "no method 'lora'"),
        (Grid([1], methods=["adabn"]), "'adabn' does not exist for this run"),
        (Grid([7], methods=["full"]), "7 whole years wanted"),
    ],
)
def test_what_cannot_be_done_is_refused(workspace, grid, message):
    with pytest.raises(ConfigError, match=message):
        go(workspace, grid)


def test_one_pair_is_needed(workspace):
    with pytest.raises(ConfigError, match="one pair to adapt to"):
        go(workspace, Grid([1]), make(workspace, on=["RCM_A/imperfect", "RCM_B/imperfect"]))


KILLED = """
import os, signal, sys
import torch
sys.path.insert(0, "TESTS")
torch.set_num_threads(1)
import test_few_shot as t
from pathlib import Path

def kill(done, total, note):
    if note.startswith("head"):
        os.kill(os.getpid(), signal.SIGKILL)

t.curve.PairStore.open = classmethod(lambda cls, *arguments: t.make_store())
t.go(Path("WORKSPACE"), t.Grid([1], methods=["full", "head"]), progress=kill)
"""


def test_a_killed_grid_keeps_its_finished_cells(workspace):
    """SIGKILL of a real process; its lock is that of a process that is gone."""
    code = KILLED.replace("TESTS", str(Path(__file__).parent)).replace("WORKSPACE", str(workspace))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    calls = []
    cells = go(workspace, Grid([1], methods=["full", "head"]), progress=lambda *told: calls.append(told[2]))["cells"]
    assert calls == ["head-1y-draw0-seed0"]
    assert [one["method"] for one in cells] == ["zero_shot", "full", "head"]


SHARED = """
import sys
import torch
sys.path.insert(0, "TESTS")
torch.set_num_threads(1)
import test_few_shot as t
from pathlib import Path

t.curve.PairStore.open = classmethod(lambda cls, *arguments: t.make_store())
t.go(Path("WORKSPACE"), t.Grid([1], seeds=2), wait=False, progress=lambda *told: print(told[2], flush=True))
"""


def test_two_processes_share_the_cells(workspace, tmp_path):
    shutil.copytree(workspace, tmp_path / "alone")
    code = SHARED.replace("TESTS", str(Path(__file__).parent)).replace("WORKSPACE", str(workspace))
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    did = [process.communicate(timeout=240)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    calls = []
    cells = go(workspace, Grid([1], seeds=2), progress=lambda *told: calls.append(told))["cells"]
    names = [Cell(one["method"], one["shots"], one["draw"], one["seed"]).name for one in cells]
    assert not calls and sorted(did[0] + did[1]) == sorted(names) and did[0] and did[1]
    alone = go(tmp_path / "alone", Grid([1], seeds=2))["cells"]
    assert json.dumps([one["scores"] for one in cells]) == json.dumps([one["scores"] for one in alone])
    folder = workspace / "few_shot" / f"{RUN}-RCM_B-imperfect"
    assert [path.name for path in folder.iterdir()] == ["cells"]


def test_a_cell_in_the_work_of_another_is_left_alone_or_waited_for(workspace):
    grid = Grid([1], methods=["full", "head"])
    folder = workspace / "few_shot" / f"{RUN}-RCM_B-imperfect"
    code = (
        "import time; from pathlib import Path; from downscale.hpc.locks import folder_lock\n"
        f"with folder_lock(Path({str(folder)!r}), name='.full-1y-draw0-seed0.lock'): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline().strip() == "held"
    result = go(workspace, grid, wait=False)
    assert result["left"] == 1 and [one["method"] for one in result["cells"]] == ["zero_shot", "head"]
    Timer(1.0, other.kill).start()
    told = []
    whole = go(workspace, grid, progress=lambda *one: told.append(one))
    assert "left" not in whole and [one["method"] for one in whole["cells"]] == ["zero_shot", "full", "head"]
    assert [note for *_, note in told] == ["full-1y-draw0-seed0"]
    other.wait()
    assert [path.name for path in folder.iterdir()] == ["cells"]


@fault("S01", "`few-shot` saves the cell in work, also before the job ends, and exits 75")
@fault("S07", "`few-shot` stops in time too, between cells and within one")
def test_a_grid_in_a_job_that_is_about_to_end(workspace, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 30))
    with pytest.raises(Stopped, match="the end of the job"):
        go(workspace, Grid([1], methods=["full"]))
    assert not (workspace / "few_shot" / f"{RUN}-RCM_B-imperfect" / "cells").exists()


def test_the_command(experiment):
    """On files: prepare, train, the grid, its table and its plot; then nothing is left to do."""
    config = experiment(("epochs: 2}", "epochs: 1, baselines: []}"), ("epochs: 1, shots: 1}", "epochs: 1}"))
    assert run_cli("prepare", config).exit_code == 0
    assert run_cli("train", config, "--device", "cpu").exit_code == 0
    arguments = ("few-shot", config, "--from", RUN, "--shots", "0,1", "--methods", "calibration,scratch", "--device", "cpu")
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    folder = config.parent / "results" / "few_shot" / f"{RUN}-RCM_B-imperfect"
    assert {path.name for path in folder.iterdir()} == {"cells", "table.csv", "cells.csv", "curve.png"}
    assert "years" in result.stdout
    assert "calibration" in result.stdout
    (folder / "cells" / "scratch-1y-draw0-seed0.json").unlink()
    with folder_lock(folder, name=".scratch-1y-draw0-seed0.lock"):
        left = run_cli(*arguments, "--no-wait")
    assert left.exit_code == 0 and "the same command without --no-wait" in left.stdout and "left: 1" in left.stdout
    assert f"{folder.name}: 2 cells done" in run_cli("status", config).stdout
    run_cli(*arguments)
    again = run_cli(*arguments, "--json")
    facts = json.loads(again.stdout)
    assert facts["summary"]["cells"] == 3
    assert facts["summary"]["table"][1].split()[:3] == ["0", "zero_shot", "1.000"]
    assert run_cli("few-shot", config, "--from", RUN, "--shots", "2").exit_code == 2
    assert run_cli("few-shot", config, "--from", "nothing").exit_code == 4
    assert run_cli("few-shot", config, "--from", RUN, "--set", "few_shot=null").exit_code == 2
