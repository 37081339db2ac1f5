"""Ensembles of GCMs (T11) and the matrix of GCMs, RCMs and scenarios."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fake_workspace import make_config
from hypothesis import given, settings
from hypothesis import strategies as st
from transfer_world import make_context, predict, small_store

from downscale.evaluate.scorecard import Score
from downscale.evaluate.transfer import ensemble, matrix
from downscale.evaluate.transfer.ensemble import ranking, variance_shares
from downscale.evaluate.transfer.light_evidence import Collector


def test_the_same_order_has_tau_one_and_the_reverse_minus_one():
    assert ranking({"A": (1.0, 2.0), "B": (2.0, 3.0), "C": (5.0, 9.0)})["kendall_tau"] == pytest.approx(1.0)
    assert ranking({"A": (1.0, 9.0), "B": (2.0, 3.0), "C": (5.0, 2.0)})["kendall_tau"] == pytest.approx(-1.0)
    third = ranking({"A": (1.0, 1.0), "B": (2.0, 3.0), "C": (3.0, 2.0)})
    assert third["kendall_tau"] == pytest.approx(1 / 3) and third["p_value"] == pytest.approx(1.0) and third["n_gcm"] == 3


def test_two_gcms_are_no_ranking_and_equal_ones_none_either():
    few = ranking({"A": (1.0, 2.0), "B": (2.0, 3.0), "C": (math.nan, 3.0)})
    assert math.isnan(few["kendall_tau"]) and few["n_gcm"] == 2 and "needs 3" in few["note"]
    assert "alike" in ranking(dict.fromkeys("ABC", (1.0, 2.0)))["note"]


def test_who_makes_the_spread_is_found():
    by_gcm = {run: {"A": 1.0, "B": 3.0} for run in ("x", "y")}
    assert {row["factor"]: row["share"] for row in variance_shares(by_gcm)} == pytest.approx({"gcm": 1.0, "emulator": 0.0, "residual": 0.0})
    by_run = {"x": {"A": 1.0, "B": 1.0}, "y": {"A": 4.0, "B": 4.0}}
    assert {row["factor"]: row["share"] for row in variance_shares(by_run)}["emulator"] == pytest.approx(1.0)
    crossed = {"x": {"A": 1.0, "B": -1.0}, "y": {"A": -1.0, "B": 1.0}}
    assert {row["factor"]: row["share"] for row in variance_shares(crossed)}["residual"] == pytest.approx(1.0)


def test_too_little_for_an_analysis_and_no_spread_at_all():
    assert not list(variance_shares({"x": {"A": 1.0, "B": 2.0}})) and not list(variance_shares({}))
    assert not list(variance_shares({"x": {"A": 1.0, "B": 2.0}, "y": {"A": 1.0}}))
    assert all(math.isnan(row["share"]) for row in variance_shares({"x": {"A": 1.0, "B": 1.0}, "y": {"A": 1.0, "B": 1.0}}))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 6))
def test_shares_add_up_to_one(seed, runs, gcms):
    values = np.random.default_rng(seed).standard_normal((runs, gcms))
    table = {str(i): {str(j): float(values[i, j]) for j in range(gcms)} for i in range(runs)}
    rows = list(variance_shares(table))
    assert sum(row["share"] for row in rows) == pytest.approx(1.0) and all(0 <= row["share"] <= 1 for row in rows)


# --- in a workspace ----------------------------------------------------------------------------------------------------------------


def change(run, case, value, metric="change_mean"):
    return Score(run, case, "tasmax", metric, "all", "ANN", "change", value, math.nan, math.nan, "K", 720, 2, 4, "")


def test_rows_of_the_scorecard_become_rankings_and_shares(tmp_path):
    cfg, store = small_store(tmp_path)
    for run in ("net", "other"):
        for name in store.groups:
            predict(tmp_path, store, name, "imperfect", lambda truth: truth, run=run)
    context = make_context(tmp_path, cfg, store)
    for run, extra in (("net", 0.0), ("other", 0.5)):
        for name, value in (("RCM_A", 2.0), ("RCM_B", 4.0)):
            context.rows += [
                change(run, f"{name}/imperfect", value + extra),
                change(run, f"{name}/imperfect", value, "change_mean_reference"),
            ]
    ensemble.diagnose(context)
    rows = context.tables["ensemble"][1]
    assert {(row["run"], row["n_gcm"], row["pairing"]) for row in rows} == {("net", 2, "imperfect"), ("other", 2, "imperfect")}
    shares = {row["factor"]: row["share"] for row in context.tables["anova"][1]}
    assert shares["gcm"] == pytest.approx(4 / (4 + 0.25)) and shares["residual"] == pytest.approx(0.0, abs=1e-9)


def test_members_of_one_gcm_count_as_one(tmp_path):
    cfg, store = small_store(tmp_path)
    for name in ("RCM_A", "RCM_B"):
        cfg.sources[name].facets["driving_source_id"] = "MODEL"
        cfg.sources[name.replace("RCM", "GCM")].facets["source_id"] = "MODEL"
        predict(tmp_path, store, name, "imperfect", lambda truth: truth)
    context = make_context(tmp_path, cfg, store)
    context.rows += [change("net", f"{name}/imperfect", value) for name, value in (("RCM_A", 2.0), ("RCM_B", 4.0))]
    ((_, signals),) = ensemble._signals(context).items()
    assert signals["net"]["MODEL"][0] == pytest.approx(3.0) and math.isnan(signals["net"]["MODEL"][1])


def cells(context):
    matrix.diagnose(context)
    return {(row["gcm"], row["scenario"]): row for row in context.tables["matrix"][1]}


def test_cells_are_simulated_emulated_or_missing(tmp_path):
    cfg, store = small_store(tmp_path, lone_gcm=True)
    store.groups["RCM_A"].notes.append(
        "RCM_A: all channels: experiments follow each other: historical 1995-01-01 to 2000-12-31, ssp585 2090-01-01 to 2095-12-31"
    )
    predict(tmp_path, store, "CNRM", "imperfect", lambda field: field)
    context = make_context(tmp_path, cfg, store)
    found = cells(context)
    assert found["GCM_A", "historical"]["state"] == "simulated" and found["GCM_A", "historical"]["years"] == "1995-1997 2000"
    assert found["GCM_A", "ssp585"]["years"] == "2090 2095" and found["GCM_B", ""]["state"] == "simulated"
    assert found["CNRM", ""]["state"] == "emulated" and found["CNRM", ""]["run"] == "net" and found["CNRM", ""]["light"] == "unknown"
    assert found["CNRM", "ssp585"]["state"] == "missing" and found["CNRM", "ssp585"]["command"] == ""


@pytest.mark.parametrize(("light", "state"), [("green", "trusted"), ("yellow", "doubtful"), ("red", "doubtful"), ("unknown", "emulated")])
def test_the_light_decides_who_is_trusted(tmp_path, light, state):
    cfg, store = small_store(tmp_path, lone_gcm=True)
    predict(tmp_path, store, "CNRM", "imperfect", lambda field: field)
    context = make_context(tmp_path, cfg, store)
    context.extend("light", ("run", "case", "rule", "light"), [{"run": "net", "case": "CNRM/imperfect", "rule": "verdict", "light": light}])
    assert cells(context)["CNRM", ""]["state"] == state


def test_an_empty_cell_has_the_command_that_fills_it(tmp_path):
    cfg, store = small_store(tmp_path, lone_gcm=True)
    predict(tmp_path, store, "RCM_A", "imperfect", lambda truth: truth)
    row = cells(make_context(tmp_path, cfg, store))["CNRM", ""]
    assert row["state"] == "missing" and row["command"] == "downscale apply CONFIG --run net --source CNRM"


def test_facets_name_models_members_and_scenarios(tmp_path):
    cfg, store = small_store(tmp_path)
    cfg = make_config(tmp_path)
    cfg.sources["RCM_A"].facets.update(source_id="RCM1", driving_experiment_id="ssp126")
    cfg.sources["GCM_A"].facets.update(source_id="MODEL", variant_label="r2i1p1f1")
    cfg.sources["RCM_B"].facets.update(source_id="RCM2")
    context = make_context(tmp_path, cfg, store)
    matrix.diagnose(context)
    rows = {(row["gcm"], row["rcm"], row["scenario"]): row for row in context.tables["matrix"][1]}
    assert rows["MODEL", "RCM1", "ssp126"]["state"] == "simulated" and rows["MODEL", "RCM1", "ssp126"]["member"] == "r2i1p1f1"
    assert rows["MODEL", "RCM2", "ssp126"]["state"] == "missing" and rows["GCM_B", "RCM2", ""]["state"] == "simulated"


def test_observations_are_no_rcm_and_a_reanalysis_is_no_gcm(tmp_path):
    cfg, store = small_store(tmp_path)
    for name in ("RCM_A", "RCM_B"):
        predict(tmp_path, store, name, "imperfect", lambda truth: truth)
    context = make_context(tmp_path, cfg, store)
    context.sources = replace(context.sources, roles={**context.sources.roles, "RCM_B": "observations"})
    assert set(cells(context)) == {("GCM_A", "")}
    assert {one.run.group for one in Collector(context).collect()} == {"RCM_A"}


def emulated_members(root, lights, **facts):
    """Three GCMs that are members of one, each emulated, with a light each."""
    cfg, store = small_store(root, lone_gcm=True)
    for name in ("r1", "r2", "r3"):
        store.groups[name] = replace(store.groups["CNRM"], name=name)
        cfg.sources[name] = cfg.sources["CNRM"].model_copy(update={"facets": {"source_id": "MPI", "variant_label": name}})
        predict(root, store, name, "imperfect", lambda field: field, **facts)
    del store.groups["CNRM"]
    context = make_context(root, cfg, store)
    rows = [{"run": "net", "case": f"{name}/imperfect", "rule": "verdict", "light": light} for name, light in lights.items()]
    context.extend("light", ("run", "case", "rule", "light"), rows)
    return context


def test_each_member_of_a_gcm_has_a_cell_of_its_own(tmp_path):
    context = emulated_members(tmp_path, {"r1": "red", "r2": "red", "r3": "green"})
    matrix.diagnose(context)
    rows = {row["member"]: row for row in context.tables["matrix"][1] if row["gcm"] == "MPI"}
    assert {member: (row["state"], row["light"], row["case"]) for member, row in rows.items()} == {
        "r1": ("doubtful", "red", "r1/imperfect"),
        "r2": ("doubtful", "red", "r2/imperfect"),
        "r3": ("trusted", "green", "r3/imperfect"),
    }
    assert all(set(row) == set(matrix.COLUMNS) for row in context.tables["matrix"][1])


def test_of_several_runs_the_one_of_the_verdict_fills_a_cell_and_the_others_are_counted(tmp_path):
    cfg, store = small_store(tmp_path, lone_gcm=True)
    for run, facts in (("a-tuned", {"mode": "finetune"}), ("net", {}), ("z-else", {"trained_on": ["RCM_B/perfect"]})):
        predict(tmp_path, store, "CNRM", "imperfect", lambda field: field, run=run, **facts)
    context = make_context(tmp_path, cfg, store)
    lights = {"a-tuned": "green", "net": "red", "z-else": "green"}
    rows = [{"run": run, "case": "CNRM/imperfect", "rule": "verdict", "light": light} for run, light in lights.items()]
    context.extend("light", ("run", "case", "rule", "light"), rows)
    row = cells(context)["CNRM", ""]
    assert (row["run"], row["light"], row["state"], row["others"]) == ("net", "red", "doubtful", "2 trusted")
