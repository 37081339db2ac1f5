"""Alignment by quantiles and by batch normalisation: known answers, the change kept, what is stored and said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from align_world import WINDOW, days_in, group_of, pair
from pydantic import ValidationError
from safetensors.numpy import load_file
from training_world import FakeGroup, make_config, make_store

torch = pytest.importorskip("torch")

from downscale.apply.adapt import align  # noqa: E402
from downscale.apply.align_runs import FITTED, HOW_TO_READ, aligned, write_fitted  # noqa: E402
from downscale.apply.quantiles import LEVELS, monthly_quantiles, offsets  # noqa: E402
from downscale.apply.refresh import Refresh  # noqa: E402
from downscale.config.schema import ApplyConfig  # noqa: E402
from downscale.errors import InputDataError  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.run import load_run  # noqa: E402

ALL = (2000, 2051)


def quantile(gcm, rcmu, window=WINDOW, **options):
    return align("quantile", window, (gcm, "imperfect"), [(rcmu, "perfect")], options.get("positive", [False]), gcm.days)


# --- quantiles ---------------------------------------------------------------------------------------------------------------


def test_offsets_by_hand():
    """Between two quantiles the offset is interpolated, beyond the last it stays, and at equal quantiles nothing divides by 0."""
    source = np.linspace(0.0, 24.0, 25)[None, :, None, None, None] * np.ones((12, 1, 1, 1, 1))
    target = 10.0 + 2.0 * source
    values = np.array([0.0, 3.0, 3.5, 24.0, 30.0, -7.0]).reshape(6, 1, 1, 1)
    found = offsets(values, np.zeros(6, int), source, target).ravel()
    np.testing.assert_allclose(found, [10.0, 13.0, 13.5, 34.0, 34.0, 10.0])
    flat = offsets(np.full((1, 1, 1, 1), 5.0), np.zeros(1, int), np.full_like(source, 5.0), np.full_like(source, 7.0))
    assert flat.item() == 2.0


def test_quantiles_are_those_of_numpy_by_month_and_pooled():
    rng, days = np.random.default_rng(0), days_in((2000, 2001), (1, 7), 28)
    groups = [group_of(name, rng.normal(size=(len(days), 1, 2, 2)), days, "perfect") for name in "AB"]
    found = monthly_quantiles([(group, "perfect") for group in groups])
    july = days // 100 % 100 == 7
    pooled = np.concatenate([group.arrays["perfect"][july] for group in groups])
    np.testing.assert_allclose(found[6], np.quantile(pooled, LEVELS, axis=0), atol=1e-6)
    assert np.isnan(found[1]).all()


def test_a_skewed_distribution_becomes_that_of_the_training():
    """G is exponential, U Gaussian: mean and standard deviation alone would leave the skewness."""
    rng, days = np.random.default_rng(0), days_in(range(2000, 2030), (1,), 30)
    gcm = group_of("G", 5.0 + rng.exponential(3.0, (len(days), 1, 1, 1)), days)
    rcmu = group_of("U", rng.normal(280.0, 2.0, (len(days), 1, 1, 1)), days, "perfect")
    result = quantile(gcm, rcmu, (2000, 2029))(gcm.arrays["imperfect"], days).ravel()
    for level in (0.05, 0.5, 0.95):
        assert np.quantile(result, level) == pytest.approx(np.quantile(rcmu.arrays["perfect"], level), abs=0.2)
    skewness = ((result - result.mean()) ** 3).mean() / result.std() ** 3
    assert abs(skewness) < 0.6
    assert (np.argsort(result, kind="stable") == np.argsort(gcm.arrays["imperfect"].ravel(), kind="stable")).mean() > 0.99


def test_the_change_and_the_extremes_stay_the_gcms():
    days = days_in(range(2000, 2060), (1,), 30)
    rng = np.random.default_rng(1)
    trend = 0.1 * (days // 10000 - 2000)
    gcm = group_of("G", (trend + 2.0 * rng.normal(size=len(days)))[:, None, None, None], days)
    rcmu = group_of("U", (trend + 1.0 * rng.normal(size=len(days)))[:, None, None, None], days, "perfect")
    alignment = quantile(gcm, rcmu, (2000, 2019))
    result = alignment(gcm.arrays["imperfect"], days)[:, 0, 0, 0]
    year = days // 10000
    assert np.polyfit(year, result, 1)[0] == pytest.approx(0.1, abs=0.01)
    assert (result - np.array([result[year == one].mean() for one in year])).std() == pytest.approx(1.0, rel=0.2)
    heat = np.array([[[[30.0]]], [[[40.0]]]], np.float32)
    assert np.diff(alignment(heat, np.array([20100101, 20100101])).ravel()).item() == pytest.approx(10.0, abs=1e-3)


def test_missing_values_stay_missing_and_lower_bounds_hold():
    gcm, rcmu = pair()
    gcm.arrays["imperfect"][3, 0, 0, 0] = np.nan
    rcmu.arrays["perfect"][:, 0, 0, 1] = np.nan
    result = quantile(gcm, rcmu)(gcm.arrays["imperfect"], gcm.days)
    assert np.flatnonzero(np.isnan(result[:, 0, 0, 0])).tolist() == [3]
    assert np.isnan(result[:, 0, 0, 1]).all()
    assert result.dtype == np.float32
    gcm, rcmu = pair()
    for group in (gcm, rcmu):
        group.arrays[group.kinds[0]] -= 281.0
    assert quantile(gcm, rcmu, positive=[True])(gcm.arrays["imperfect"], gcm.days).min() == 0.0


@pytest.mark.parametrize("method", ["mean", "gcm_align", "quantile"])
def test_what_was_fitted_can_be_stored(method):
    gcm, rcmu = pair()
    alignment = align(method, WINDOW, (gcm, "imperfect"), [(rcmu, "perfect")], [False], gcm.days)
    found = alignment.arrays()
    assert {array.dtype for array in found.values()} == {np.dtype("f4")}
    np.testing.assert_allclose(found["source_mean"][6] - found["training_mean"][6], 2.0 + 1.2, atol=1.6)
    assert ("source_std" in found, "source_quantiles" in found) == (method == "gcm_align", method == "quantile")
    assert ("change" in found) == (method != "mean")


# --- batch normalisation, and what a prediction says -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A unet_doury learned from RCM_A/perfect; the GCM that drives RCM_B is 5 units off and has truth for nobody."""
    store = make_store()
    store.groups["RCM_B"].arrays["imperfect"] = store.groups["RCM_B"].arrays["imperfect"] + np.float32(5.0)
    del store.groups["RCM_B"].arrays["target"]
    path = tmp_path_factory.mktemp("align")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: store))
        train = {"on": ["RCM_A/perfect"], "epochs": 1, "baselines": ["ridge"]}
        cfg = make_config(path, train=train, model={"name": "unet_doury", "width": 4, "backbone": "none", "dropout": 0.0})
        folder = modes.train_run(cfg, device="cpu")["artefact"]
    return cfg, store, load_run(folder, device="cpu")


def same(first, second):
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


def asked(cfg, method, **more):
    return cfg.model_copy(update={"apply": ApplyConfig(align=method, align_window=list(ALL), **more)})


def test_adabn_takes_the_statistics_of_the_window(trained):
    cfg, store, run = trained
    group = store.groups["RCM_B"]
    before = {name: value.clone() for name, value in run.emulator.state_dict().items()}
    found = aligned(asked(cfg, "adabn"), store, run, (group, "imperfect"), group.days)
    assert found.group is group
    changed = found.run()
    assert changed is found.run()
    state = changed.emulator.state_dict()
    moved = {name for name, value in state.items() if not same(value, before[name])}
    assert moved
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in moved)
    assert all(same(value, before[name]) for name, value in run.emulator.state_dict().items())
    assert set(found.fitted()) == {name for name in state if name.endswith(("running_mean", "running_var"))}
    assert found.facts["method"] == "adabn"
    assert found.attributes["downscale_alignment"].startswith("adabn: batch normalisation with the statistics of RCM_B/imperfect")
    note = found.attributes["downscale_alignment_note"]
    assert note.startswith("the network reads these fields relative to their own statistics") and note.endswith(HOW_TO_READ)
    assert "that of the RCMu fields of RCM_A is lost in part" in note and "aligned with" not in note
    store.groups["RCM_B"].arrays["imperfect"][group.split("test")] += 99.0
    again = Refresh(run, (group, "imperfect"), ALL)().emulator.state_dict()
    store.groups["RCM_B"].arrays["imperfect"][group.split("test")] -= 99.0
    assert all(same(value, state[name]) for name, value in again.items())


def test_adabn_brings_the_first_layer_back_to_its_training_range(trained):
    """Statistics of the shifted maps through the stem: normalised they are as those of the training days were."""
    cfg, store, run = trained
    group = store.groups["RCM_B"]
    changed = aligned(asked(cfg, "adabn"), store, run, (group, "imperfect"), group.days).run()
    maps = torch.from_numpy(group.arrays["imperfect"][group.split("train")])
    means = []
    for one in (run, changed):
        scaled = (maps - one.emulator.inputs.mean) / one.emulator.inputs.std
        with torch.no_grad():
            means.append(one.emulator.net.stem[1](one.emulator.net.stem[0](scaled)).mean(dim=(0, 2, 3)))
    bias = run.emulator.net.stem[1].bias
    assert (means[1] - bias).abs().max() < 0.05
    assert (means[0] - bias).abs().max() > 0.2


def test_a_run_without_batch_normalisation_reads_the_gcm_as_it_is(trained, caplog):
    cfg, store, run = trained
    group = store.groups["RCM_B"]
    ridge = load_run(run.path.parent / "ridge-RCM_A-perfect", device="cpu")
    with caplog.at_level("WARNING"):
        found = aligned(asked(cfg, "adabn"), store, ridge, (group, "imperfect"), group.days)
    assert (found.facts, found.attributes, found.group) == (None, {}, group)
    assert "no batch normalisation" in caplog.text
    small = FakeGroup("RCM_B", group.days, group.arrays, {**group.splits, "train": group.split("train")[:5]})
    with pytest.raises(InputDataError, match="5 training days") as caught:
        aligned(asked(cfg, "adabn"), store, run, (small, "imperfect"), group.days)
    assert caught.value.code == 4


def test_the_climate_of_another_gcm_is_said_in_the_file(trained, caplog, tmp_path):
    cfg, store, run = trained
    other, own = store.groups["RCM_B"], store.groups["RCM_A"]
    with caplog.at_level("WARNING"):
        found = aligned(asked(cfg, "quantile"), store, run, (other, "imperfect"), other.days)
    note = found.attributes["downscale_alignment_note"]
    assert note.startswith("aligned with the climate of the RCMu fields of RCM_A: this source's own climate is gone")
    assert "changes between periods" in caplog.text
    assert "downscale_alignment_note" not in aligned(asked(cfg, "mean"), store, run, (own, "imperfect"), own.days).attributes
    assert (
        "downscale_alignment_note"
        not in aligned(asked(cfg, "mean", align_to="own"), store, run, (other, "imperfect"), other.days).attributes
    )
    write_fitted([found], tmp_path)
    stored = load_file(tmp_path / FITTED)
    assert stored["source_quantiles"].shape == (12, 25, 2, 4, 5)
    assert found.run() is run


@pytest.mark.parametrize(
    ("learned", "name", "words"),
    [
        (["RCM_A/perfect", "RCM_B/perfect"], "RCM_A", "pooled climate of the RCMu fields of RCM_A and the RCMu fields of RCM_B"),
        (["RCM_B/imperfect"], "RCM_A", "climate of the driving fields of RCM_B: this source's own climate is gone"),
    ],
)
def test_the_note_says_whose_climate_it_is(trained, learned, name, words):
    """A pool that holds the source's own RCM run is another climate too; what was learned from need not be RCMu."""
    cfg, store, run = trained
    recipe = {**run.card["recipe"], "on": learned, "pairs": dict.fromkeys(learned, "1")}
    other = replace(run, card={**run.card, "recipe": recipe})
    group = store.groups[name]
    found = aligned(asked(cfg, "mean"), store, other, (group, "imperfect"), group.days)
    assert words in found.attributes["downscale_alignment_note"]
    assert found.attributes["downscale_alignment_note"].endswith(HOW_TO_READ)


def test_nothing_is_written_where_nothing_was_fitted(trained, tmp_path):
    cfg, store, run = trained
    group = store.groups["RCM_B"]
    plain = aligned(cfg, store, run, (group, "imperfect"), group.days)
    perfect = aligned(asked(cfg, "mean"), store, run, (group, "perfect"), group.days)
    write_fitted([plain, perfect], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_seed_of_adabn_has_a_file_and_fields_are_fitted_once(trained, tmp_path):
    cfg, store, run = trained
    group = store.groups["RCM_B"]
    networks = [aligned(asked(cfg, "adabn"), store, run, (group, "imperfect"), group.days) for _ in range(2)]
    networks[1] = replace(networks[1], of_run="other")
    write_fitted(networks, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"alignment-{run.path.name}.safetensors", "alignment-other.safetensors"}
    fields = [aligned(asked(cfg, "mean"), store, run, (group, "imperfect"), group.days) for _ in range(2)]
    write_fitted([fields[0], replace(fields[1], fitted=lambda: pytest.fail("fitted twice"))], tmp_path)
    assert (tmp_path / FITTED).exists()


@pytest.mark.parametrize("options", [{"align": "adabn"}, {"align": "adabn", "align_window": [2000, 2001], "align_to": "own"}])
def test_half_an_adabn_is_refused(options):
    with pytest.raises(ValidationError):
        ApplyConfig(**options)
