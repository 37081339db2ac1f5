"""Scores and members in the files of apply: beside the fields, whatever the blocks, and exit 7."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pytest
from profile_world import FACETS
from training_world import make_config, make_store

torch = pytest.importorskip("torch")

from downscale.apply import jobs  # noqa: E402
from downscale.apply.stage import apply_run  # noqa: E402
from downscale.config.schema import ApplyConfig  # noqa: E402
from downscale.errors import ConfigError, OutputExistsError, TransferabilityError  # noqa: E402
from downscale.training import modes  # noqa: E402

RUN = "resunet-RCM_A-perfect"


def make_warm_store():
    """RCM_B is 6 K warmer than anything that RCM_A saw, with a forcing beyond the training."""
    store = make_store()
    store.scalars = [*store.scalars, "CO2"]
    for name, group in store.groups.items():
        co2 = 350.0 + (group.days // 10000 - 2000) + (200.0 if name == "RCM_B" else 0.0)
        group.arrays["scalars"] = np.concatenate([group.arrays["scalars"], co2[:, None].astype("f4")], axis=1)
        group.attributes["notes"] = []
        type(group).notes = property(lambda self: [])
    for kind in ("perfect", "imperfect"):
        store.groups["RCM_B"].arrays[kind] = store.groups["RCM_B"].arrays[kind] + np.array([6.0, 0.0], np.float32)[:, None, None]
    return store


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two seeds of a network with dropout, learned from RCM_A/perfect."""
    store, patch = make_warm_store(), pytest.MonkeyPatch()
    for module in (modes, jobs):
        patch.setattr(module.PairStore, "open", classmethod(lambda cls, *arguments: store))
    train = {"on": ["RCM_A/perfect"], "epochs": 1, "batch_size": 32, "baselines": ["ridge", "climatology"], "seeds": [0, 1]}
    model = {"name": "resunet", "width": 4, "backbone": "none", "dropout": 0.3}
    cfg = make_config(tmp_path_factory.mktemp("w"), train=train, model=model)
    cfg = cfg.model_copy(update={"forcings": None})
    modes.train_run(cfg, device="cpu")
    yield cfg
    patch.undo()


def asked(cfg, **options):
    return cfg.model_copy(update={"apply": ApplyConfig.model_validate(options)})


def opened(cfg, *parts):
    with netCDF4.Dataset(cfg.workspace_path().joinpath("predictions", *parts)) as file:
        file.set_auto_mask(False)
        names = [name for name in file.variables if name.startswith("ood_")]
        series = {name: np.array(file[name][:]) for name in names}
        attributes = {name: file[name].__dict__ for name in names}
        return np.array(file[parts[-1].removesuffix(".nc")][:]), series, attributes, file[parts[-1].removesuffix(".nc")].__dict__


def test_scores_stand_beside_the_fields_and_are_summed_up(workspace):
    said = apply_run(workspace, runs=[RUN], sources=["RCM_A", "RCM_B"], device="cpu")
    _, near, attributes, _ = opened(workspace, RUN, "RCM_A_perfect", "tas.nc")
    _, far, _, _ = opened(workspace, RUN, "RCM_B_perfect", "pr.nc")
    assert set(near) == {"ood_score", "ood_score_features", "ood_flag", "ood_outside_tas", "ood_outside_zg500", "ood_outside_CO2"}
    assert near["ood_flag"].dtype == np.int8
    assert attributes["ood_flag"]["flag_meanings"] == "predictors network_features"
    assert attributes["ood_score"]["threshold"] > 0
    assert (near["ood_flag"] > 0).mean() < 0.2 < 0.9 < (far["ood_flag"] > 0).mean()
    assert far["ood_outside_CO2"].mean() == 1.0
    assert far["ood_outside_tas"].mean() > 5 * near["ood_outside_tas"].mean()
    record = json.loads((workspace.workspace_path() / "predictions" / RUN / "RCM_B_perfect" / "prediction.json").read_text())
    assert record["ood"]["flagged_share"] == pytest.approx((far["ood_flag"] > 0).mean(), abs=1e-6)
    assert record["ood"]["outside_range"]["CO2"] == 1.0
    assert set(record["ood"]["flagged_share_by_decade"]) == {"2000s", "2050s"}
    lines = said["days far from training"]
    assert len(lines) == 2
    assert any(one.startswith(f"{RUN}/RCM_B_perfect: 100.0% of") for one in lines), lines


def test_too_many_far_days_are_exit_7_and_the_files_stay(workspace):
    chosen = asked(workspace, days="test", ood={"threshold_share": 0.5, "on_exceed": "fail"})
    with pytest.raises(TransferabilityError) as caught:
        apply_run(chosen, runs=[f"{RUN}-seed1"], device="cpu")
    assert caught.value.code == 7
    assert all("RCM_B" in finding for finding in caught.value.findings)
    assert (workspace.workspace_path() / "predictions" / f"{RUN}-seed1" / "RCM_B_perfect" / "prediction.json").exists()
    with pytest.raises(TransferabilityError):
        apply_run(chosen, runs=[f"{RUN}-seed1"], device="cpu")
    apply_run(chosen, runs=[f"{RUN}-seed1"], sources=["RCM_A"], device="cpu")


def test_ridge_knows_its_training_days_and_a_climatology_has_none(workspace):
    said = apply_run(asked(workspace, days="test"), runs=["ridge-RCM_A-perfect"], sources=["RCM_B"], device="cpu")
    assert len(said["days far from training"]) == 1
    series = opened(workspace, "ridge-RCM_A-perfect", "RCM_B_perfect", "tas.nc")[1]
    assert "ood_score" in series and "ood_score_features" not in series
    plain = apply_run(asked(workspace, days="test"), runs=["climatology-RCM_A-perfect"], sources=["RCM_B"], device="cpu")
    assert "days far from training" not in plain


@pytest.mark.parametrize("of", ["dropout", "seeds"])
def test_members_are_a_dimension_and_blocks_do_not_matter(workspace, of):
    members = {"of": of, "number": 2}
    runs = [RUN, f"{RUN}-seed1"] if of == "seeds" else [RUN]
    name = f"{RUN}-{of}"
    found = []
    for block_days in (384, 7):
        chosen = asked(workspace, days="test", members=members, block_days=block_days)
        apply_run(chosen, runs=runs, sources=["RCM_A"], device="cpu", overwrite=True)
        found.append(opened(workspace, name, "RCM_A_perfect", "tas.nc"))
        (workspace.workspace_path() / "predictions" / name / "RCM_A_perfect" / "prediction.json").unlink()
    fields, series, _, _ = found[0]
    assert fields.shape == (28, 2, 8, 10)
    assert np.abs(fields[:, 0] - fields[:, 1])[..., 3:].max() > 0
    np.testing.assert_array_equal(found[1][0], fields)
    for key, values in series.items():
        np.testing.assert_array_equal(found[1][1][key], values)


def test_mean_and_spread_are_those_of_the_members(workspace):
    folder = workspace.workspace_path() / "predictions" / f"{RUN}-dropout" / "RCM_B_perfect"
    chosen = asked(workspace, days="test", members={"of": "dropout", "number": 3})
    apply_run(chosen, runs=[RUN], sources=["RCM_B"], device="cpu")
    fields = opened(workspace, f"{RUN}-dropout", "RCM_B_perfect", "tas.nc")[0][..., 3:].astype(float)
    other = asked(workspace, days="test", members={"of": "dropout", "number": 3, "write": "mean_and_spread"})
    with pytest.raises(ConfigError, match="no statistics of them") as refused:
        archive = {"profile": "cordex", "facets": FACETS, "members": other.apply.members.model_dump()}
        apply_run(asked(workspace, **archive), runs=[RUN], sources=["RCM_B"], device="cpu", dry_run=True)
    assert refused.value.where == "apply.members.write"
    with pytest.raises(OutputExistsError) as caught:
        apply_run(other, runs=[RUN], sources=["RCM_B"], device="cpu")
    assert "members" in " ".join(caught.value.findings)
    apply_run(other, runs=[RUN], sources=["RCM_B"], device="cpu", overwrite=True)
    mean, _, _, attributes = opened(workspace, f"{RUN}-dropout", "RCM_B_perfect", "tas.nc")
    spread, series, _, spread_attributes = opened(workspace, f"{RUN}-dropout", "RCM_B_perfect", "spread", "tas.nc")
    np.testing.assert_allclose(mean[..., 3:], fields.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(spread[..., 3:], fields.std(axis=1, ddof=1), rtol=1e-3, atol=1e-5)
    assert attributes["cell_methods"].endswith("realization: mean")
    assert spread_attributes["cell_methods"].endswith("realization: standard_deviation")
    assert series == {}
    record = json.loads((folder / "prediction.json").read_text())
    assert record["recipe"]["members"]["number"] == 3
