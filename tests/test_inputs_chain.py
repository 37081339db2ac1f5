"""From files of the virtual climate to the tables: what its truth says must be found in them."""

from __future__ import annotations

import json

import pytest
from conftest import CHANNELS, EXPERIMENT, run_cli
from inputs_world import rows_of

torch = pytest.importorskip("torch")

from downscale.apply.explain import Effort, explain_run  # noqa: E402
from downscale.apply.stage import apply_run  # noqa: E402
from downscale.config.load import load_config  # noqa: E402
from downscale.evaluate.context import Context, Region, Sources  # noqa: E402
from downscale.evaluate.predictions import find_predictions  # noqa: E402
from downscale.evaluate.weather import features, ood, regime_tables, sensitivity  # noqa: E402
from downscale.pairs.build import build_pairs  # noqa: E402
from downscale.pairs.store import PairStore  # noqa: E402
from downscale.training.modes import train_run  # noqa: E402
from downscale.virtual.stage import write_sample_data  # noqa: E402

NET, RIDGE = "resunet-RCM_A-perfect", "ridge-RCM_A-perfect"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A network and a ridge that learned 1995 of RCM_A, applied to all days of both chains; three present years, one a century later."""
    folder = tmp_path_factory.mktemp("inputs")
    write_sample_data(folder / "data", size="tiny", years=[(1995, 1997), (2090, 2090)], channels=CHANNELS, workers=1)
    geometry = json.loads((folder / "data" / "truth.json").read_text())["geometry"]
    text = EXPERIMENT.format(
        data="data", coarse=geometry["coarse_box_edges"], fine=2 * geometry["target_cells"], relaxation=geometry["relaxation_cells"]
    )
    text = text.replace("train: [1995], validation: [1996], test: [1997]", "train: [1995], validation: [1996], test: [1997, 2090]")
    (folder / "config.yaml").write_text(text + "missing: {gaps: skip}\napply: {years_per_file: 50}\n")
    cfg = load_config(folder / "config.yaml", [])
    build_pairs(cfg, workers=1)
    train_run(cfg, device="cpu")
    apply_run(cfg, runs=[NET, RIDGE], device="cpu")
    for run in (NET, RIDGE):
        explain_run(cfg, run=run, effort=Effort(days=4, steps=8), device="cpu")
    return cfg


@pytest.fixture(scope="module")
def context(world):
    store = PairStore.open(world.workspace_path() / "pairs.zarr", world.split)
    found = find_predictions(world.workspace_path() / "predictions")
    scores = world.workspace_path() / "my-scores"
    scores.mkdir()
    one = Context(
        store, found, Region.of(store, "all", land_percent=50.0), world.evaluate.model_dump(), 1, tuple(world.train.on), Sources(),
        world.workspace_path(), scores,
    )  # fmt: skip
    for diagnosis in (ood, features, sensitivity, regime_tables):
        diagnosis.diagnose(one)
    return one


def test_flags_rise_with_warming(context):
    shares = {(row["case"], row["period"]): row["share"] for row in rows_of(context, "ood") if row["space"] == "pca"}
    for case in ("RCM_A/perfect", "RCM_A/imperfect", "RCM_B/imperfect"):
        assert shares[case, "2090-2099"] > 2 * shares[case, "1990-1999"]
    assert shares["RCM_A/perfect", "1990-1999"] < 0.02
    medians = {row["year"]: row["median"] for row in rows_of(context, "ood_days") if row["case"] == "RCM_A/perfect"}
    assert medians[2090] > max(medians[1995], medians[1996])


def test_the_foreign_gcm_is_farther_than_the_own_one(context):
    rows = {(row["case"], row["against"]): row["distance"] for row in rows_of(context, "feature_shift") if row["run"] == NET}
    assert rows["RCM_B/imperfect", "training"] > rows["RCM_A/imperfect", "training"]
    assert rows["RCM_A/imperfect", "RCM_A/perfect"] < 0.1 * rows["RCM_B/imperfect", "training"]
    assert {row["run"] for row in rows_of(context, "feature_shift")} == {NET}


def test_the_sums_of_all_periods_are_counted(world, context):
    folder = world.workspace_path() / "predictions" / NET / "RCM_A_perfect"
    facts = json.loads((folder / "prediction.json").read_text())
    assert len(facts["feature_files"]) == 2
    assert all((folder / name).is_file() for name in facts["feature_files"])
    against = [row for row in rows_of(context, "feature_shift") if row["against"] == "training"]
    days = {row["case"]: row["n_days"] for row in against}
    assert [row["case"] for row in against if "hold training days" in row["note"]] == ["RCM_A/perfect"]
    assert days["RCM_A/perfect"] == 365 + 366 + 365 + 365
    assert days["RCM_B/perfect"] == 4 * 360


def test_warmer_air_warms_the_surface_and_its_channels_matter_most(context):
    rows = {
        (row["run"], row["case"], row["variable"], row["perturbation"]): row
        for row in rows_of(context, "sensitivity")
        if row["season"] == "ANN"
    }
    warmer = rows[RIDGE, "RCM_A/perfect", "tasmax", "temperature_plus_1K"]["response"]
    assert 0.5 < warmer < 1.5
    assert rows[RIDGE, "RCM_A/perfect", "pr", "humidity_plus_10pct"]["relative"] > 0
    top = {(row["run"], row["variable"]): row["channel"] for row in rows_of(context, "attribution") if row["rank"] == 1}
    assert top[RIDGE, "tasmax"] in ("ta850", "zg500")
    agreement = [row["spearman"] for row in rows_of(context, "attribution_rank") if row["run"] == RIDGE]
    assert min(agreement) > 0.5


def test_regimes_of_every_case_add_up(context):
    sums: dict[tuple, float] = {}
    for row in rows_of(context, "regime_frequency"):
        key = row["case"], row["period"], row["season"]
        sums[key] = sums.get(key, 0.0) + row["frequency"]
    assert list(sums.values()) == pytest.approx([1.0] * len(sums))
    assert {case for case, _, _ in sums} == {f"RCM_{x}/{kind}" for x in "AB" for kind in ("perfect", "imperfect")}
    assert (context.folder / "regimes.nc").exists()


def test_applying_again_finds_everything_there_and_a_lost_file_is_made_again(world):
    folder = world.workspace_path() / "predictions" / NET / "RCM_A_perfect"
    before = {path.name: path.read_bytes() for path in folder.glob("features*.safetensors")}
    said = apply_run(world, runs=[NET], sources=["RCM_A"], device="cpu")
    assert "complete already" in said["predictions"][0]

    next(folder.glob("features*.safetensors")).unlink()
    apply_run(world, runs=[NET], sources=["RCM_A"], device="cpu")
    assert {path.name: path.read_bytes() for path in folder.glob("features*.safetensors")} == before


def test_the_command_line_explains_says_what_it_would_do_and_refuses(world):
    config = world.workspace_path().parent / "config.yaml"
    again = run_cli("explain", config, "--run", NET, "--days", 4, "--steps", 8, "--device", "cpu", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["summary"]["cases"] == [
        f"RCM_{x}_{kind}.nc: complete already" for x in "AB" for kind in ("perfect", "imperfect")
    ]
    assert run_cli("explain", config, "--run", NET, "--days", 5, "--device", "cpu").exit_code == 3
    assert run_cli("explain", config, "--run", "climatology-RCM_A-perfect", "--device", "cpu").exit_code == 4
    assert run_cli("explain", config, "--run", NET, "--source", "X", "--device", "cpu").exit_code == 2
    dry = run_cli("explain", config, "--run", NET, "--days", 5, "--device", "cpu", "--dry-run", "--json")
    assert len(json.loads(dry.stdout)["summary"]["would write"]) == 4
