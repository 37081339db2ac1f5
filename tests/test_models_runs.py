"""Networks as runs: the model card, output for land alone, what inspect shows."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_world import make_config, make_store  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from downscale.cli.app import app  # noqa: E402
from downscale.errors import InputDataError  # noqa: E402
from downscale.models import Inputs  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training import run as folders  # noqa: E402
from downscale.training.card import limits, model_card  # noqa: E402
from downscale.training.run import load_run  # noqa: E402

DEEPESD = {"name": "deepesd", "backbone": "ridge"}


@pytest.fixture
def store(monkeypatch):
    made = make_store()
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: made))
    return made


def train(folder, model, baselines=()):
    base = make_config(folder, train={"epochs": 2, "baselines": list(baselines)}).model_dump(exclude_none=True)
    cfg = type(make_config(folder)).model_validate({**base, "model": model})
    return load_run(modes.train_run(cfg, device="cpu")["artefact"], device="cpu")


def fields_of(run, store, n=8):
    arrays = store.groups["RCM_A"].arrays
    with torch.inference_mode():
        return run.emulator(Inputs(*(torch.from_numpy(arrays[name][:n]) for name in ("perfect", "scalars", "surface")))).numpy()


# --- land only ---------------------------------------------------------------------------------------------------------------


def test_land_only_has_outputs_for_cells_with_truth_and_land(tmp_path, store):
    store.static["sftlf"] = store.static["sftlf"].copy()
    store.static["sftlf"][:3] = 49.0  # three rows of sea with truth, beside the two columns without
    run = train(tmp_path, {**DEEPESD, "land_only": True})
    assert run.spec["cells"] == 5 * 8
    assert run.emulator.net.dense.out_features == 2 * 40
    fields = fields_of(run, store)
    assert np.isnan(fields[:, :, :3]).all()
    assert np.isnan(fields[..., :2]).all()
    assert np.isfinite(fields[:, :, 3:, 2:]).all()
    assert "40 of 80 always missing" in (run.path / "MODEL.md").read_text()


def test_land_only_without_sftlf_goes_by_the_truth(tmp_path, store):
    del store.static["sftlf"]
    run = train(tmp_path, {**DEEPESD, "land_only": True})
    assert run.spec["cells"] == 8 * 8
    whole = train(tmp_path / "whole", DEEPESD)
    assert "cells" not in whole.spec
    assert whole.emulator.net.dense.out_features == 2 * 80
    wanted, got = fields_of(whole, store), fields_of(run, store)
    assert np.array_equal(np.isnan(wanted), np.isnan(got))


def test_land_only_is_refused_where_there_is_nothing_to_leave_out(tmp_path, store):
    for group in store.groups.values():
        group.arrays["target"][..., :2] = 1.0
    with pytest.raises(InputDataError, match="every fine cell has land and truth"):
        train(tmp_path, {**DEEPESD, "land_only": True})
    store.static["sftlf"] = np.zeros_like(store.static["sftlf"])
    with pytest.raises(InputDataError, match="no fine cell has"):
        train(tmp_path, {**DEEPESD, "land_only": True})


def test_a_network_for_land_goes_on_after_a_stop(tmp_path, store, monkeypatch):
    """The start that lies in the run folder fits the statistics of the day, with the cells left out."""
    model = {**DEEPESD, "land_only": True}
    whole = train(tmp_path / "whole", model)

    class Halt(Exception):
        pass

    def halting(*arguments, **more):
        raise Halt

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_json", halting)
        with pytest.raises(Halt):
            train(tmp_path / "cut", model)
    resumed = train(tmp_path / "cut", model)
    assert np.array_equal(fields_of(whole, store), fields_of(resumed, store), equal_nan=True)


# --- the model card ----------------------------------------------------------------------------------------------------------


def test_the_model_card_says_what_a_run_is(tmp_path, store):
    run = train(tmp_path, {"name": "resunet", "width": 8, "backbone": "ridge"}, baselines=["ridge"])
    text = (run.path / "MODEL.md").read_text()
    for part in ("`resunet` (width 8, backbone ridge)", "tas (K), pr (mm day-1)", "RCM_A/perfect", "2000-2051", "16 of 80 always missing",
                 run.card["config_sha256"][:12], run.card["weights_sha256"][:12], "validation RMSE", "Not to be used for"):  # fmt: skip
        assert part in text, part
    assert f"| tas, K | {run.card['best']['rmse_tas']:.4g} |" in text
    ridge = (tmp_path / "runs" / "ridge-RCM_A-perfect" / "MODEL.md").read_text()
    assert "baseline" in ridge
    assert "alpha" in ridge
    assert model_card(run.path.name, run.card, run.normaliser, missing_cells=16) == text


def test_inspect_shows_what_a_run_is_not_for(tmp_path, store):
    run = train(tmp_path, {"name": "resunet", "width": 8, "backbone": "none"})
    shown = CliRunner().invoke(app, ["inspect", str(run.path)])
    assert shown.exit_code == 0
    assert "MODEL.md" in shown.output
    assert "not for: A climate much warmer" in " ".join(shown.output.split())


def test_limits_follow_from_the_run(tmp_path):
    spec = {"model": {"name": "resunet", "backbone": "none"}, "targets": ["tas"]}
    plain = " ".join(limits({"spec": spec, "trained_on": ["A/perfect"]}))
    assert "perfect pairs" in plain and "warmer" in plain and "Extremes" in plain
    linear = " ".join(limits({"spec": {**spec, "model": {"name": "resunet", "backbone": "ridge"}}, "trained_on": ["A/perfect"]}))
    assert "warmer" not in linear
    assert "warmer" not in " ".join(limits({"spec": {**spec, "detrend": "CO2"}, "trained_on": ["A/perfect"]}))
    other = " ".join(limits({"spec": {**spec, "heads": {"tas": {"kind": "gaussian"}}}, "trained_on": ["A/imperfect (finetune)"]}))
    assert "that of A/imperfect:" in other and "rougher than weather" in other and "perfect pairs)" not in other


def test_a_network_for_land_is_fine_tuned_on_the_same_cells(tmp_path, store):
    first = train(tmp_path, {**DEEPESD, "land_only": True})
    base = make_config(tmp_path, finetune={"epochs": 2, "learning_rate": 1e-2}).model_dump(exclude_none=True)
    cfg = type(make_config(tmp_path)).model_validate({**base, "model": {**DEEPESD, "land_only": True}})
    tuned = load_run(modes.train_run(cfg, mode="finetune", source_run=first.path.name, device="cpu")["artefact"], device="cpu")
    assert torch.equal(tuned.emulator.net.cells, first.emulator.net.cells)
    assert not torch.equal(tuned.emulator.net.dense.weight, first.emulator.net.dense.weight)
    before, after = fields_of(first, store), fields_of(tuned, store)
    assert np.array_equal(np.isnan(before), np.isnan(after))
    assert "going on from deepesd-RCM_A-perfect" in (tuned.path / "MODEL.md").read_text()
