"""Numbers that are missing, constant or not finite: in predictors, in targets, and while training (rows N01-N05, U08)."""

from __future__ import annotations

import json
import shutil

import netCDF4
import numpy as np
import pytest
from conftest import EXPERIMENT, run_cli
from faults import assert_refused, fault

from downscale.config.load import load_config
from downscale.pairs.store import PairStore

GROUND = (slice(6, 14), slice(6, 14))
SEA = (slice(None), slice(0, 6))


@pytest.fixture(scope="module")
def one_run(tiny_world, tmp_path_factory):
    """make(folder, *changes) -> config of RCM_A and GCM_A alone, on copies of their files in which ``changes`` have been made."""
    geometry = json.loads((tiny_world / "truth.json").read_text())["geometry"]
    boxes = {"coarse": geometry["coarse_box_edges"], "fine": 2 * geometry["target_cells"], "relaxation": geometry["relaxation_cells"]}

    def make(folder, *changes):
        for kind in ("rcm", "gcm"):
            shutil.copytree(tiny_world / kind / "VGCM-A", folder / "data" / kind / "VGCM-A")
        for kind, name, change in changes:
            (path,) = (folder / "data" / kind / "VGCM-A").glob(f"{name}_*.nc")
            with netCDF4.Dataset(path, "a") as file:
                values = np.ma.filled(file[name][:], np.nan)
                change(values)
                file[name][:] = np.ma.masked_invalid(values) if not np.isinf(values).any() else values
        lines = EXPERIMENT.format(data=folder / "data", **boxes).splitlines()
        kept = [line for line in lines if "CM_B" not in line]
        (folder / "config.yaml").write_text("\n".join(kept) + "\n")
        return folder / "config.yaml"

    return make


def put(value, days, cells=(slice(None), slice(None))):
    """A change of some days and cells of (time, y, x) or (time, level, y, x)."""

    def change(values):
        values[(days, ..., *cells)] = value

    return change


def ok(*arguments):
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    return result


def store_of(config) -> PairStore:
    cfg = load_config(config)
    return PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)


def predicted(config, run, case, name="tasmax") -> np.ndarray:
    with netCDF4.Dataset(config.parent / "results" / "predictions" / run / case / f"{name}.nc") as file:
        return np.ma.filled(file[name][:], np.nan)


def card_of(config, run) -> dict:
    return json.loads((config.parent / "results" / "runs" / run / "model.json").read_text())


FAST = ("--set", "train.epochs=1", "--set", "model.backbone=ridge")
MASK = ("--set", "missing.below_ground=mask", "--set", "missing.nan_days=drop")
SUMMER = slice(180, 200)
"""Days of 1995, which trains."""


@pytest.fixture(scope="module")
def chain(one_run, tmp_path_factory):
    """Holes of every kind: ta850 of the RCM under mountains, ua850 of the GCM likewise on three days, whole maps, sea, odd targets."""
    config = one_run(
        tmp_path_factory.mktemp("holes"),
        ("rcm", "ta850", put(np.nan, SUMMER, GROUND)),
        ("rcm", "ta850", put(np.nan, slice(800, 803), GROUND)),
        ("rcm", "zg500", put(np.nan, slice(100, 102))),
        ("gcm", "ua", put(np.nan, slice(1000, 1003), (slice(4, 6), slice(4, 6)))),
        ("rcm", "tasmax", put(np.nan, slice(None), SEA)),
        ("rcm", "pr", put(np.nan, slice(None), SEA)),
        ("rcm", "tasmax", put(np.nan, slice(50, 90), (10, 10))),
    )
    prepared = ok("prepare", config, *MASK)
    trained = ok("train", config, *MASK, *FAST, "--name", "net")
    ok("apply", config, *MASK)
    return config, prepared.output, trained.output


# --- N01 ------------------------------------------------------------------------------------------------------------------------


@fault(
    "N01", "refused by default, exit 4, with the channel, the file, all dates and the two policies; `missing.below_ground: mask` allows it"
)
def test_levels_under_the_orography_are_refused_by_default(one_run, tmp_path):
    config = one_run(tmp_path, ("rcm", "ta850", put(np.nan, SUMMER, GROUND)), ("rcm", "hus850", put(np.nan, [400], GROUND)))
    words = ("ta850_", "1995-06-30 to 1995-07-19", "hus850: 1 day(s)", "1996-02-05", "21 day(s)", "below_ground: mask", "nan_days: drop")
    assert_refused(run_cli("prepare", config), *words)
    assert not (tmp_path / "results" / "pairs.zarr").exists()


@fault("N01", "with `mask`: the training mean stands in, a mask channel says where, counts are noted, and apply does as training did")
def test_masked_levels_go_through_the_chain(chain):
    config, prepared, trained = chain
    group = store_of(config).groups["RCM_A"]
    assert "ta850 is missing under the orography in" in prepared and any("ta850 is missing under" in note for note in group.notes)
    assert np.isnan(group.predictors("perfect", np.array([185]))[0, 1]).any() and group.usable[185]
    assert "predictor ta850" in trained and "cells missing at times" in trained
    card = card_of(config, "net")
    assert (
        card["spec"]["masked"] == ["ta850"]
        and "ta850" in json.loads((config.parent / "results" / "runs" / "net" / "normaliser.json").read_text())["missing"]
    )
    for run in ("net", "ridge-RCM_A-perfect", "climatology-RCM_A-perfect"):
        fields = predicted(config, run, "RCM_A_perfect")
        assert np.isfinite(fields[SUMMER, :, 6:]).all() and np.isfinite(fields[800:803, :, 6:]).all(), run


@fault("N01", "a channel that training never saw missing has no mask: apply writes such days as missing and lists them")
def test_a_channel_without_mask_makes_a_missing_day(chain):
    config, _, _ = chain
    fields = predicted(config, "net", "RCM_A_imperfect")
    assert np.isnan(fields[1000:1003]).all() and np.isfinite(fields[990:1000, :, 6:]).all()
    again = run_cli("apply", config, *MASK, "--run", "net", "--overwrite", "--set", "apply.block_days=100")
    assert again.exit_code == 0


@fault("N01", "scores and report are made as ever, on the days that a prediction has")
@pytest.mark.slow
def test_evaluation_goes_on_with_holes(chain):
    config, _, _ = chain
    ok("evaluate", config, *MASK)
    rows = (config.parent / "results" / "scores" / "scores.csv").read_text().splitlines()
    for case in ("RCM_A/perfect", "RCM_A/imperfect"):
        (row,) = [line.split(",") for line in rows if line.startswith(f"net,{case},tasmax,rmse,all,ANN,all,")]
        assert 0.0 < float(row[7]) < 10.0


# --- N02 ------------------------------------------------------------------------------------------------------------------------


@fault("N02", "refused by default, exit 4: all days of all channels with their file")
def test_days_without_a_map_are_refused_and_listed(one_run, tmp_path):
    config = one_run(tmp_path, ("rcm", "zg500", put(np.nan, [3, 4, 5, 700])), ("gcm", "zg", put(np.nan, [9])))
    words = ("zg500_", "1995-01-04 to 1995-01-06", "1996-12-01", "GCM_A", "1995-01-10", "nan_days: drop")
    text = assert_refused(run_cli("prepare", config), *words)
    assert "2 problems" in text and not (tmp_path / "results" / "pairs.zarr").exists()


@fault("N02", "with `missing.nan_days: drop` the days take no part, and log and store list them")
def test_days_without_a_map_are_dropped_and_listed(chain):
    config, prepared, _ = chain
    group = store_of(config).groups["RCM_A"]
    assert np.flatnonzero(~group.usable).tolist() == [100, 101]
    assert not set(group.split("train")) & {100, 101}
    line = "RCM_A: 2 day(s) left out for missing values: 1995-04-11 to 1995-04-12"
    assert line in prepared and line in group.notes
    assert np.isnan(predicted(config, "net", "RCM_A_perfect")[100:102]).all()


@fault("N02", "infinity is a value outside the plausible range: exit 4 with file and date")
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused(one_run, tmp_path, value):
    config = one_run(tmp_path, ("rcm", "ta850", put(value, [800], (3, 3))))
    assert_refused(run_cli("prepare", config, *MASK), "ta850", "inf", "1997-03-11", "plausible", ".nc")
    assert not (tmp_path / "results" / "pairs.zarr").exists()


# --- N03 ------------------------------------------------------------------------------------------------------------------------


@fault("N03", "the loss leaves such cells out, the mask is part of the model, and what is trained predicts nothing exactly there")
def test_the_sea_stays_missing(chain, tmp_path):
    config, _, trained = chain
    truth = store_of(config).groups["RCM_A"].target(slice(0, 40))
    sea = np.isnan(truth).all(axis=0)
    assert sea.any() and not sea.all()
    for run in ("net", "ridge-RCM_A-perfect", "climatology-RCM_A-perfect"):
        for position, name in enumerate(("tasmax", "pr")):
            fields = predicted(config, run, "RCM_A_perfect", name)[:40]
            np.testing.assert_array_equal(np.isnan(fields), np.broadcast_to(sea[position], fields.shape), err_msg=f"{run} {name}")
    assert "lack some training days" in trained
    files = sorted((config.parent / "data" / "gcm" / "VGCM-A").glob("*.nc"))
    ok("apply", config.parent / "results" / "runs" / "net", "--input", *files, "-o", tmp_path / "out")
    with netCDF4.Dataset(tmp_path / "out" / "tasmax.nc") as file:
        np.testing.assert_array_equal(np.isnan(np.ma.filled(file["tasmax"][:5], np.nan)), np.broadcast_to(sea[0], (5, *sea[0].shape)))


# --- N04, N05 -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(one_run, tmp_path_factory):
    """A workspace with sound pairs."""
    config = one_run(tmp_path_factory.mktemp("sound"))
    ok("prepare", config)
    return config


@fault("N04", "such a step changes nothing; three in a row end the training, exit 1 (4 where the data hold the fault), with all their days")
def test_a_loss_that_is_not_finite_ends_the_training(prepared, tmp_path):
    config = shutil.copytree(prepared.parent, tmp_path / "copy") / "config.yaml"
    rate = ("--set", "train.learning_rate=1e25", "--set", "train.warmup_epochs=0", "--set", "train.baselines=[]")
    result = run_cli("train", config, "--name", "net", *rate)
    text = assert_refused(result, "3 steps in a row", "not finite", "learning_rate", "RCM_A/perfect: 1995", "epoch 1", code=1)
    assert text.count(" 1995") >= 3 * 64
    run = config.parent / "results" / "runs" / "net"
    assert not (run / "DONE").exists() and (run / "state" / "start.safetensors").exists()
    assert "a step is left out" in (run / "log.txt").read_text()


@fault("N05", "training stops when the validation loss is 1,000 times the first, keeps the best weights and says so")
def test_an_exploding_loss_stops_with_the_best_weights(prepared, tmp_path):
    config = shutil.copytree(prepared.parent, tmp_path / "copy") / "config.yaml"
    rate = ("--set", "train.learning_rate=2", "--set", "train.warmup_epochs=0", "--set", "train.epochs=9")
    result = ok("train", config, "--name", "net", "--set", "train.baselines=[]", *rate)
    assert "exploded in epoch 1" in result.output and "weights of epoch 0 are kept" in result.output
    assert card_of(config, "net")["best"]["epoch"] == 0


@fault("N05", "train warns of an estimate that never changes, and evaluate refuses its prediction with exit 4")
def test_a_constant_output_is_told_and_not_evaluated(prepared, tmp_path):
    config = shutil.copytree(prepared.parent, tmp_path / "copy") / "config.yaml"
    still = ("--set", "train.learning_rate=1e-30", "--set", "train.epochs=1", "--set", "train.baselines=[]")
    assert "tasmax, pr is estimated the same on every validation day" in ok("train", config, "--name", "still", *still).output
    ok("apply", config, "--set", "apply.days=test")
    assert_refused(run_cli("evaluate", config), "never change in time", "still on RCM_A/perfect: tasmax", "metrics.csv")
    assert not (config.parent / "results" / "scores").exists()


# --- U08 ------------------------------------------------------------------------------------------------------------------------


@fault("U08", "a channel that never changes on the training days: exit 4 at train with its name and the days")
@fault("U08", "with `missing.constant_channels: drop` it is listed in log and model.json and fed as zeros")
def test_a_constant_predictor(one_run, tmp_path):
    config = one_run(tmp_path, ("rcm", "hus850", put(0.004, slice(0, 600))))
    ok("prepare", config)
    result = run_cli("train", config)
    assert_refused(
        result, "hus850: every cell constant", "19950101 to 19951226", "constant_channels: drop", untouched=tmp_path / "results" / "runs"
    )
    drop = ("--set", "missing.constant_channels=drop", *FAST)
    assert "hus850: every cell constant on 360 training days" in ok("train", config, *drop, "--name", "net").output
    assert card_of(config, "net")["spec"]["dropped"] == ["hus850"]
    ok("apply", config, *drop, "--run", "net", "--source", "RCM_A")
    first = predicted(config, "net", "RCM_A_perfect")
    assert np.isfinite(first).all() and first[700].std() > 0


@fault("U08", "a channel without any value: exit 4 at prepare with its file, or zeros in its place by the same policy")
def test_a_predictor_without_values(one_run, tmp_path):
    config = one_run(tmp_path, ("rcm", "hus850", put(np.nan, slice(None))))
    words = ("hus850", "no value on any day", "constant_channels: drop")
    assert_refused(run_cli("prepare", config, "--set", "missing.nan_days=drop"), *words)
    assert not (tmp_path / "results" / "pairs.zarr").exists()
    drop = ("--set", "missing.constant_channels=drop")
    ok("prepare", config, *drop)
    assert_refused(run_cli("train", config), "hus850: no value", "constant_channels: drop")
    ok("train", config, *drop, *FAST, "--name", "net")
    assert card_of(config, "net")["spec"]["dropped"] == ["hus850"]
    ok("apply", config, *drop, "--run", "net")
    assert np.isfinite(predicted(config, "net", "RCM_A_perfect")).all() and np.isfinite(predicted(config, "net", "RCM_A_imperfect")).all()
