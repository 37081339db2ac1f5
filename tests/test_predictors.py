"""Predictor consistency before training: shift, scale and separability of virtual GCMs with known faults, the stage and its words."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import run_cli
from transfer_world import make_context, small_store

from downscale.cli.evaluate import with_consistency
from downscale.config.load import load_config
from downscale.errors import InputDataError, OutputExistsError
from downscale.evaluate.context import cell_areas
from downscale.evaluate.scorecard import number, read_table
from downscale.evaluate.transfer import predictor_pairs, predictor_scale, separability
from downscale.evaluate.transfer.predictor_scale import octaves
from downscale.evaluate.transfer.predictor_words import SUMMARY, overall, words
from downscale.evaluate.transfer.predictors import evaluate_predictors, list_comparisons, quick_reading
from downscale.pairs.build import build_pairs
from downscale.pairs.store import PairStore


@pytest.fixture(scope="module")
def virtual(tiny_world, tmp_path_factory):
    """A prepared store of the virtual climate: (config, store)."""
    from conftest import EXPERIMENT

    geometry = json.loads((tiny_world / "truth.json").read_text())["geometry"]
    path = tmp_path_factory.mktemp("predictors") / "config.yaml"
    text = EXPERIMENT.format(
        data=tiny_world, coarse=geometry["coarse_box_edges"], fine=2 * geometry["target_cells"], relaxation=geometry["relaxation_cells"]
    )
    path.write_text(text)
    cfg = load_config(path, [])
    build_pairs(cfg, workers=1)
    return path, cfg, PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)


class Altered:
    """A group of the virtual climate whose GCM is a changed copy of its own RCMu."""

    def __init__(self, group, change):
        self._group, self._change = group, change

    def __getattr__(self, name):
        return getattr(self._group, name)

    def predictors(self, kind, index):
        fields = self._group.predictors("perfect", index)
        return fields if kind == "perfect" else self._change(fields).astype(np.float32)


def tables(virtual, tmp_path, change, *diagnoses):
    """Tables of RCM_A whose GCM is its RCMu after ``change``."""
    _, cfg, store = virtual
    altered = replace(store, groups={"RCM_A": Altered(store.groups["RCM_A"], change)})
    context = make_context(tmp_path, cfg, altered)
    for diagnosis in diagnoses:
        diagnosis.diagnose(context)
    return context


def spread(virtual):
    store = virtual[2]
    group = store.groups["RCM_A"]
    return group.predictors("perfect", group.split("test")).std(axis=0)


def test_a_virtual_gcm_shifted_by_d_shows_d(virtual, tmp_path):
    s = spread(virtual)
    context = tables(virtual, tmp_path, lambda fields: fields + 0.7 * s, predictor_pairs)
    rows = [row for row in context.tables["predictor_shift"][1] if row["season"] == "ANN"]
    assert len(rows) == 4 and all(row["shift"] == pytest.approx(0.7, abs=1e-3) for row in rows)
    assert all(row["log_std_ratio"] == pytest.approx(0.0, abs=1e-3) and row["correlation"] == pytest.approx(1.0, abs=1e-3) for row in rows)


def test_a_virtual_gcm_of_other_variability_shows_its_ratio_at_every_scale(virtual, tmp_path):
    context = tables(virtual, tmp_path, lambda fields: fields.mean(axis=0) + 0.5 * (fields - fields.mean(axis=0)), predictor_scale)
    rows = context.tables["predictor_scale"][1]
    assert rows and all(row["log_power_ratio"] == pytest.approx(2 * math.log(0.5), abs=1e-3) for row in rows)


def test_a_smoothed_gcm_lacks_power_at_short_wavelengths_first(virtual, tmp_path):
    def smooth(fields):
        padded = np.pad(fields, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        return sum(padded[..., i : i + fields.shape[-2], j : j + fields.shape[-1]] for i in range(3) for j in range(3)) / 9

    context = tables(virtual, tmp_path, smooth, predictor_scale)
    rows = [row for row in context.tables["predictor_scale"][1] if (row["channel"], row["season"]) == ("ta850", "ANN")]
    assert len(rows) >= 2 and rows[0]["wavelength_km"] > rows[-1]["wavelength_km"]
    assert 0 > rows[0]["log_power_ratio"] > rows[-1]["log_power_ratio"]


def test_two_identical_virtual_worlds_cannot_be_told_apart(virtual, tmp_path):
    context = tables(virtual, tmp_path, lambda fields: fields, predictor_pairs, predictor_scale, separability)
    rows = context.tables["separability"][1]
    assert rows and all(row["auc"] == pytest.approx(0.5, abs=1e-9) for row in rows)
    assert all(row["shift"] == row["w1"] == 0.0 for row in context.tables["predictor_shift"][1])
    assert {row["light"] for row in words(context) if row["topic"] == SUMMARY} == {"green"}


def test_a_virtual_world_far_off_is_red_in_words(virtual, tmp_path):
    s = spread(virtual)
    context = tables(virtual, tmp_path, lambda fields: fields + 3 * s, predictor_pairs, separability)
    assert all(row["auc"] > 0.99 for row in context.tables["separability"][1])
    (line,) = overall(words(context))
    assert line.startswith("RCM_A/imperfect against RCM_A/perfect: inconsistent (mean:") and "above" in line


def test_missing_cells_and_constant_channels_are_nan(virtual, tmp_path):
    def broken(fields):
        result = fields.copy()
        result[:, 0, 0, 0], result[:, 1] = np.nan, 280.0
        return result

    context = tables(virtual, tmp_path, broken, predictor_pairs, predictor_scale)
    scale = {row["channel"]: row["log_power_ratio"] for row in context.tables["predictor_scale"][1]}
    assert math.isnan(scale["zg500"]) and math.isnan(scale["ta850"]) and scale["ua850"] == pytest.approx(0.0, abs=1e-6)
    shift = {row["channel"]: row for row in context.tables["predictor_shift"][1]}
    assert math.isfinite(shift["zg500"]["shift"]) and math.isnan(shift["ta850"]["log_std_ratio"])


# --- which are compared ------------------------------------------------------------------------------------------------------------


def test_pairs_are_compared_once(tmp_path):
    cfg, store = small_store(tmp_path, lone_gcm=True)
    context = make_context(tmp_path, cfg, store)
    found = [tuple(f"{group.name}/{kind}" for group, kind in pair) for pair in predictor_pairs.compared_pairs(context)]
    assert found == [
        ("RCM_A/imperfect", "RCM_A/perfect"),
        ("RCM_B/imperfect", "RCM_B/perfect"),
        ("RCM_B/imperfect", "RCM_A/perfect"),
        ("RCM_B/perfect", "RCM_A/perfect"),
        ("CNRM/imperfect", "RCM_A/perfect"),
        ("RCM_B/imperfect", "RCM_A/imperfect"),
        ("CNRM/imperfect", "RCM_A/imperfect"),
    ]


def test_octaves_go_from_the_domain_to_two_cells():
    bands = octaves((16, 16), (100.0, 100.0))
    assert len(bands) == 4 and bands[0][0] == pytest.approx(3200 / 1.26, rel=0.2) and bands[-1][0] < 400
    assert not any(inside[0, 0] for _, inside in bands)
    together = sum(inside.astype(int) for _, inside in bands)
    assert together.max() == 1


# --- the stage ---------------------------------------------------------------------------------------------------------------------


def test_the_stage_writes_tables_and_a_reading(virtual):
    path, cfg, store = virtual
    summary = evaluate_predictors(cfg)
    folder = summary["artefact"]
    assert summary["comparisons"] == 5 and len(summary["reading"]) == 5
    assert {row["topic"] for row in read_table(folder / "reading.csv")} == {
        "mean",
        "variability",
        "weather",
        "scale",
        "separability",
        SUMMARY,
    }
    assert "RCM_B/imperfect against RCM_A/perfect" in (folder / "reading.txt").read_text()
    rows = {(row["case"], row["against"], row["channel"], row["season"]): row for row in read_table(folder / "predictor_shift.csv")}
    group = store.groups["RCM_B"]
    index = group.split("test")
    gcm, rcmu = (group.predictors(kind, index)[:, 1].astype(float) for kind in ("imperfect", "perfect"))
    d = (gcm.mean(axis=0) - rcmu.mean(axis=0)) / rcmu.std(axis=0)
    expected = float(np.average(d, weights=cell_areas(store.coarse)))
    assert number(rows["RCM_B/imperfect", "RCM_B/perfect", "ta850", "ANN"]["shift"]) == pytest.approx(expected, rel=1e-4)
    assert evaluate_predictors(cfg)["note"] == "complete already"
    other = load_config(path, ["evaluate.separability.components=3"])
    with pytest.raises(OutputExistsError):
        evaluate_predictors(other)
    assert evaluate_predictors(other, overwrite=True)["comparisons"] == 5


def test_prepare_ends_with_a_line_for_each_pair(virtual):
    _, cfg, _ = virtual
    lines = quick_reading(cfg)
    assert len(lines) == 5 == len(list_comparisons(cfg)) and all(" against " in line and ": " in line for line in lines)


def test_prepare_says_it_when_it_has_built_something(virtual):
    _, cfg, _ = virtual
    said = with_consistency(cfg, {"artefact": cfg.workspace_path() / "pairs.zarr", "grids": "x"})["predictors"]
    assert len(said) == 6 and "--predictors" in said[-1]
    for summary in ({"artefact": None}, {"artefact": "x", "unchanged": "nothing to do"}):
        assert with_consistency(cfg, summary) == summary


def test_without_pairs_it_is_an_error_and_prepare_says_nothing(virtual, tmp_path):
    path, _, _ = virtual
    cfg = load_config(path, [f"workspace={tmp_path / 'nowhere'}"])
    with pytest.raises(InputDataError, match="no pair store"):
        evaluate_predictors(cfg)
    assert quick_reading(cfg) == []


def test_one_run_without_a_gcm_has_nothing_to_compare(virtual, tmp_path, monkeypatch):
    _, cfg, store = virtual
    alone = replace(store, groups={"RCM_A": store.groups["RCM_A"]})
    monkeypatch.setattr(alone.groups["RCM_A"], "kinds", ("perfect",))
    monkeypatch.setattr("downscale.evaluate.transfer.predictors.PairStore", type("Fake", (), {"open": staticmethod(lambda *_: alone)}))
    summary = evaluate_predictors(cfg.model_copy(update={"workspace": str(tmp_path)}))
    assert summary["comparisons"] == 0 and "Nothing to compare" in (summary["artefact"] / "reading.txt").read_text()


def test_the_command_makes_a_page(virtual):
    path = virtual[0]
    result = run_cli("evaluate", path, "--predictors", "--overwrite", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["artefact"].endswith("index.html")
    dry = run_cli("evaluate", path, "--predictors", "--dry-run")
    assert dry.exit_code == 0 and "RCM_B/perfect against RCM_A/perfect" in dry.output
    refused = run_cli("evaluate", "--predictors", "--prediction", "a.nc", "--reference", "b.nc", "-o", "out")
    assert refused.exit_code == 2 and "--predictors" in refused.output
