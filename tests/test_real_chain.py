"""prepare, train, apply and evaluate on real RCM and GCM files (skips where they are absent)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, run_cli

from downscale.config.load import load_config
from downscale.pairs.store import PairStore

pytestmark = pytest.mark.slow


def ok(*arguments):
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def case(shared_data, tmp_path, monkeypatch):
    """Arguments of a shipped config with its workspace moved and its network made small."""
    monkeypatch.setenv("DOWNSCALE_DATA", str(shared_data))

    def make(name: str) -> list[str]:
        small = ("model.width=8", "train.epochs=2", f"workspace={tmp_path / name}")
        return [str(REPOSITORY / "configs" / f"{name}.yaml"), *(word for value in small for word in ("--set", value))]

    return make


def test_ridge_reaches_the_reference_on_block_means(case):
    """0.392 K (tas) and 1.515 mm/day (pr clipped at 0) on the last five winters, within 5 %; the network does not fall behind."""
    config, *options = case("racmo_block_mean")
    ok("prepare", config, *options)
    ok("train", config, *options, "--name", "net")
    ok("apply", config, *options)
    cfg = load_config(REPOSITORY / "configs" / "racmo_block_mean.yaml", options[1::2])
    store = PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)
    group = store.group("RACMO")
    index = group.split("test")
    assert (store.coarse.shape, store.fine.shape, len(index)) == ((7, 7), (28, 28), 451)
    rmse = {run: pooled(cfg, run, group.target(index)) for run in ("ridge-RACMO-perfect", "net")}
    assert rmse["ridge-RACMO-perfect"]["tas"] == pytest.approx(0.392, rel=0.05)
    assert rmse["ridge-RACMO-perfect"]["pr"] == pytest.approx(1.515, rel=0.05)
    for name in ("tas", "pr"):
        assert rmse["net"][name] <= 1.02 * rmse["ridge-RACMO-perfect"][name]


def test_reanalysis_to_observations_beats_the_reference_ridge(case):
    """R2: 1.516 K (tas) and 3.448 mm/day (pr) on the last five winters; climatology 2.858; the sea is NaN throughout."""
    config, *options = case("iberia_eobs")
    for stage in ("prepare", "train", "apply", "evaluate"):
        ok(stage, config, *options)
    cfg = load_config(REPOSITORY / "configs" / "iberia_eobs.yaml", options[1::2])
    group = PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split).group("E-OBS")
    truth = group.target(group.split("test"))
    assert group.kinds == ("imperfect",) and group.has_truth and group.predictors("imperfect", slice(0, 1)).shape == (1, 4, 6, 8)
    sea = np.isnan(group.target(group.split("train"))).all(axis=(0, 1))
    assert 0.35 < sea.mean() < 0.45
    climatology, ridge, net = (
        pooled(cfg, f"{run}-E-OBS-imperfect", truth, "E-OBS_imperfect") for run in ("climatology", "ridge", "resunet")
    )
    assert climatology["tas"] == pytest.approx(2.858, abs=0.01)
    assert ridge["tas"] < 1.516 and ridge["pr"] < 3.448
    assert net["tas"] < 1.01 * ridge["tas"] and net["pr"] < 1.01 * ridge["pr"]
    report = (cfg.workspace_path() / "report" / "index.html").read_text()
    assert "paired with the observations by day" in report


def pooled(cfg, run, truth, case="RACMO_perfect") -> dict[str, float]:
    """RMSE over all test days and cells with truth, by target."""
    import netCDF4

    scores = {}
    for position, name in enumerate(("tas", "pr")):
        with netCDF4.Dataset(cfg.workspace_path() / "predictions" / run / case / f"{name}.nc") as dataset:
            fields = np.ma.filled(dataset[name][-451:], np.nan) * (86400.0 if name == "pr" else 1.0)
        scores[name] = float(np.sqrt(np.nanmean((fields - truth[:, position]) ** 2)))
    return scores


def test_racmo_to_a_gcm_that_did_not_drive_it(case):
    config, *options = case("iberia_racmo")
    prepared = ok("prepare", config, *options)
    for words in ("cropped from 8 x 11 cells", "units taken as 'mm/day'", "converted from 'Celsius'", "19 gaps"):
        assert words in prepared.output
    ok("train", config, *options)
    ok("apply", config, *options)
    summary = json.loads(ok("evaluate", config, *options, "--json").stdout.splitlines()[-1])
    page = Path(summary["artefact"]).read_text()
    assert "no RCM truth" in page and "CNRM-CM5" in page


def test_without_the_assumption_the_units_are_refused(case, tmp_path):
    _, *options = case("iberia_racmo")
    text = (REPOSITORY / "configs" / "iberia_racmo.yaml").read_text().replace("assume_units: {pr: mm/day}", "assume_units: {}")
    (tmp_path / "config.yaml").write_text(text)
    result = run_cli("prepare", tmp_path / "config.yaml", *options)
    assert result.exit_code == 4 and "assume_units" in result.output and "'mm'" in result.output
    assert not (tmp_path / "iberia_racmo").exists()
