"""train_run from end to end on the tiny world: modes, run folder, what may stand where, what is refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from faults import fault  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from training_world import make_config, make_store  # noqa: E402

from downscale.errors import ConfigError, EnvironmentMissingError, InputDataError, OutputExistsError, Stopped  # noqa: E402
from downscale.models import Inputs  # noqa: E402
from downscale.training import modes  # noqa: E402
from downscale.training.assemble import resolve_device  # noqa: E402
from downscale.training.run import find_run, list_runs, load_run  # noqa: E402

PRETRAINED = "resunet-RCM_A-perfect"


@pytest.fixture
def store(monkeypatch):
    """A fresh store that train_run opens."""
    made = make_store()
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: made))
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with one pretrained run and its baselines."""
    workspace = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: make_store()))
        modes.train_run(make_config(workspace), device="cpu")
    return workspace


@pytest.fixture
def workspace(trained, tmp_path):
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "w")
    return tmp_path / "w"


def batch(store, group="RCM_A", n=4):
    arrays = store.groups[group].arrays
    return Inputs(*(torch.from_numpy(arrays[name][:n]) for name in ("perfect", "scalars", "surface")))


def rows_of(run):
    lines = (run / "metrics.csv").read_text().splitlines()
    return [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]


def edit_card(run, **changes):
    card = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**card, **changes}))


# --- what a run holds --------------------------------------------------------------------------------------------------------


def test_the_run_folder_keeps_its_contract(trained):
    run = trained / "runs" / PRETRAINED
    names = {path.name for path in run.iterdir()}
    wanted = (
        "config.yaml MODEL.md model.safetensors model.json normaliser.json novelty.safetensors grids.nc state metrics.csv environment.json "
        "log.txt DONE"
    )
    assert names == set(wanted.split())
    assert [path.name for path in (run / "state").iterdir()] == ["recipe.json"]
    assert (run / "model.safetensors").stat().st_mode & 0o077 == (run / "model.json").stat().st_mode & 0o077
    assert "training days" in (run / "log.txt").read_text()
    assert json.loads((run / "environment.json").read_text())["device"] == "cpu"
    rows = rows_of(run)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert list(rows[0]) == ["epoch", "train_loss", "validation_loss", "lr", "seconds", "rmse_tas", "rmse_pr"]


def test_a_loaded_run_knows_everything_and_predicts(trained, store):
    run = load_run(trained / "runs" / PRETRAINED, device="cpu")
    assert [channel.name for channel in run.channels] == ["tas", "zg500"]
    assert run.channels[1].level_hpa == 500
    assert (run.targets, run.forcing_columns, run.smooth, run.min_valid_fraction) == (["tas", "pr"], [], 1, 0.5)
    pretrained = {"model": "resunet", "role": "emulator", "mode": "pretrain", "trained_on": ["RCM_A/perfect"]}
    assert run.facts.items() >= pretrained.items()
    assert run.coarse.digest == store.coarse.digest
    assert run.fine.digest == store.fine.digest
    assert run.normaliser["training_days"] == 168
    assert run.model_id.startswith(PRETRAINED)
    fields = run.emulator(batch(store))
    assert torch.isnan(fields[..., :2]).all()
    assert torch.isfinite(fields[..., 2:]).all()
    assert fields[:, 1, :, 2:].min() == 0.0


def test_baselines_are_runs_and_do_what_their_name_says(trained, store):
    runs = {path.name: load_run(path, device="cpu") for path in list_runs(trained)}
    assert set(runs) == {PRETRAINED, "bilinear-RCM_A-perfect", "climatology-RCM_A-perfect", "ridge-RCM_A-perfect"}
    assert {name: run.facts["role"] for name, run in runs.items()} == dict.fromkeys(runs, "baseline") | {PRETRAINED: "emulator"}
    assert [name for name, run in runs.items() if run.needs_surface] == ["bilinear-RCM_A-perfect"]
    inputs, arrays = batch(store, n=224), store.groups["RCM_A"].arrays
    train = store.groups["RCM_A"].splits["train"]
    climatology = runs["climatology-RCM_A-perfect"].emulator(inputs)[:, 0, 4, 5].detach().numpy()
    season = arrays["scalars"][train, 0] == arrays["scalars"][0, 0]
    assert climatology[0] == pytest.approx(arrays["target"][train][season][:, 0, 4, 5].mean(), abs=0.02)
    ridge = runs["ridge-RCM_A-perfect"].emulator(inputs).detach().numpy()
    validation = store.groups["RCM_A"].splits["validation"]
    error = np.nanmean((ridge - arrays["target"])[validation, 0] ** 2) ** 0.5
    assert error < 0.1  # the noise is 0.05
    assert json.loads((trained / "runs" / "ridge-RCM_A-perfect" / "model.json").read_text())["ridge"].keys() == {"tas", "pr"}


def test_the_backbone_is_the_ridge_baseline(trained, store):
    ridge = load_run(trained / "runs" / "ridge-RCM_A-perfect", device="cpu").emulator.backbone
    network = load_run(trained / "runs" / PRETRAINED, device="cpu").emulator.backbone
    assert torch.equal(ridge.weight, network.weight)


def test_the_network_is_not_worse_than_its_backbone_on_validation_days(trained):
    rows = rows_of(trained / "runs" / PRETRAINED)
    assert min(float(row["validation_loss"]) for row in rows) < float(rows[0]["validation_loss"])


# --- running again -----------------------------------------------------------------------------------------------------------


def test_refit_learns_from_validation_days_too_and_says_so(tmp_path, monkeypatch):
    """168 days of six years and the 28 of the seventh: statistics, ridge and network are of all 196; the last epoch is kept."""
    store = make_store()
    for group in store.groups.values():
        group.splits["train"] = np.union1d(group.splits["train"], group.splits["validation"])
    monkeypatch.setattr(modes.PairStore, "open", classmethod(lambda cls, *arguments: store))
    cfg = make_config(tmp_path, train={"patience": 1})
    cfg = cfg.model_copy(update={"split": cfg.split.model_copy(update={"refit": True})})
    summary = modes.train_run(cfg, device="cpu")
    assert (summary["training days"], summary["epoch kept"], summary["epochs"]) == (196, 3, 3)
    run, ridge = (load_run(tmp_path / "runs" / name, device="cpu") for name in (PRETRAINED, "ridge-RCM_A-perfect"))
    assert run.card["recipe"]["settings"]["refit"] is True and ridge.card["recipe"]["refit"] is True
    assert run.normaliser["training_days"] == 196
    card = (run.path / "MODEL.md").read_text()
    assert "training and validation days together" in card and "no day chose it" in card and "validation RMSE" not in card


def test_a_complete_run_is_left_alone(workspace, store):
    weights = workspace / "runs" / PRETRAINED / "model.safetensors"
    before = weights.stat().st_mtime_ns
    summary = modes.train_run(make_config(workspace), device="cpu")
    assert "complete" in summary["unchanged"]
    assert all("complete already" in line for line in summary["baselines"])
    assert weights.stat().st_mtime_ns == before


def test_another_recipe_is_refused_with_the_difference(workspace, store):
    with pytest.raises(OutputExistsError) as error:
        modes.train_run(make_config(workspace, train={"epochs": 4}), device="cpu")
    assert error.value.findings == ["settings.epochs: 3 -> 4"]
    summary = modes.train_run(make_config(workspace, train={"epochs": 4}), device="cpu", overwrite=True)
    assert summary["epochs"] == 4


def test_overwrite_never_removes_what_is_not_a_run(tmp_path, store):
    foreign = tmp_path / "runs" / PRETRAINED
    foreign.mkdir(parents=True)
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="not a run"):
        modes.train_run(make_config(tmp_path), device="cpu", overwrite=True)
    assert (foreign / "thesis.tex").exists()


def test_other_baselines_or_paths_do_not_make_another_recipe(workspace, store):
    assert "unchanged" in modes.train_run(make_config(workspace, train={"baselines": []}), device="cpu")


def killed(epoch, epochs, note):
    """As SIGKILL: nothing is saved on the way out."""
    if epoch == 1:
        raise RuntimeError("killed")


def terminated(epoch, epochs, note):
    if epoch == 1:
        os.kill(os.getpid(), signal.SIGTERM)


@fault("S04", "SIGTERM: exit 75, everything saved; the same command goes on")
@pytest.mark.parametrize(
    ("end", "error", "seconds"), [(terminated, Stopped, 1e9), (killed, RuntimeError, 1e9), (killed, RuntimeError, 0.0)]
)
def test_a_stopped_run_goes_on_and_ends_in_the_same_bits(trained, tmp_path, store, monkeypatch, end, error, seconds):
    """SIGTERM in the second epoch, or a kill with and without a checkpoint: the same command ends in the bits of the uninterrupted run."""
    monkeypatch.setattr(modes, "SAVE_SECONDS", seconds)
    config = make_config(tmp_path)
    with pytest.raises(error) as stopped:
        modes.train_run(config, device="cpu", progress=end)
    assert getattr(stopped.value, "code", 75) == 75
    run = tmp_path / "runs" / PRETRAINED
    assert not (run / "DONE").exists()
    with pytest.raises(InputDataError, match="not finished"):
        load_run(run)
    modes.train_run(config, device="cpu")
    assert [row["epoch"] for row in rows_of(run)] == ["0", "1", "2", "3"]
    first, second = (load_file(path / "model.safetensors") for path in (trained / "runs" / PRETRAINED, run))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name].nan_to_num(), second[name].nan_to_num())] == []


def test_dry_run_writes_nothing(tmp_path, store):
    summary = modes.train_run(make_config(tmp_path), device="cpu", dry_run=True)
    assert summary["training days"] == 168
    assert summary["parameters"] > 1000
    assert list(tmp_path.iterdir()) == []


# --- fine-tuning and few shots --------------------------------------------------------------------------------------------------


def test_finetuning_starts_from_the_source_weights(workspace, store):
    """With a vanishing learning rate the run is its source, statistics and backbone included, though the pairs are others."""
    config = make_config(workspace, finetune={"learning_rate": 1e-30, "epochs": 1})
    result = modes.train_run(config, mode="finetune", source_run=PRETRAINED, device="cpu")
    assert result["artefact"].name == f"{PRETRAINED}-finetune-RCM_B-imperfect"
    source, tuned = (load_file(path / "model.safetensors") for path in (workspace / "runs" / PRETRAINED, result["artefact"]))
    assert all(torch.equal(source[name].nan_to_num(), tuned[name].nan_to_num()) for name in source)


def test_finetuning_adapts_and_leaves_statistics_and_backbone_alone(workspace, store):
    result = modes.train_run(make_config(workspace), mode="finetune", source_run=workspace / "runs" / PRETRAINED, device="cpu")
    rows = rows_of(result["artefact"])
    assert float(rows[-1]["rmse_tas"]) < 0.95 * float(rows[0]["rmse_tas"])
    source, tuned = (load_file(path / "model.safetensors") for path in (workspace / "runs" / PRETRAINED, result["artefact"]))
    moved = {name for name in source if not torch.equal(source[name].nan_to_num(), tuned[name].nan_to_num())}
    assert moved
    assert all(name.startswith("net.") for name in moved)
    card = json.loads((result["artefact"] / "model.json").read_text())
    assert card["trained_on"] == ["RCM_A/perfect", "RCM_B/imperfect (finetune)"]
    assert (card["source_run"], card["recipe"]["settings"]["l2_sp"]) == (PRETRAINED, 1e-3)


def test_few_shot_sees_only_the_days_of_the_chosen_years(workspace, store):
    group = store.groups["RCM_B"]
    group.read.clear()
    result = modes.train_run(make_config(workspace), mode="few-shot", source_run=PRETRAINED, device="cpu")
    assert result["artefact"].name == f"{PRETRAINED}-few-shot-RCM_B-imperfect-2y"
    years = json.loads((result["artefact"] / "model.json").read_text())["recipe"]["years"]
    assert years == {"RCM_B/imperfect": [2002, 2051]}
    assert set(np.concatenate(group.read) // 10000) == {2002, 2051}
    assert (result["training days"], result["validation days"]) == (45, 11)


def test_more_shots_than_years_are_refused(workspace, store):
    with pytest.raises(ConfigError, match="7 whole years wanted"):
        modes.train_run(make_config(workspace), mode="few-shot", source_run=PRETRAINED, shots=7, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "finetune"}, "needs a run to go on from"),
        ({"source_run": PRETRAINED}, "belong to --mode"),
        ({"mode": "finetune", "source_run": PRETRAINED, "shots": 1}, "--shots belongs"),
        ({"mode": "zero-shot", "source_run": PRETRAINED}, "no training mode"),
        ({"name": "../../etc"}, "cannot be a run's name"),
        ({"mode": "finetune", "source_run": "ridge-RCM_A-perfect"}, "is a baseline"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(workspace, store, arguments, message):
    with pytest.raises(ConfigError, match=message):
        modes.train_run(make_config(workspace), device="cpu", **arguments)


def test_finetuning_on_other_channels_is_refused(workspace, store):
    store.channels = ["tas", "zg850"]
    with pytest.raises(InputDataError) as error:
        modes.train_run(make_config(workspace), mode="finetune", source_run=PRETRAINED, device="cpu")
    assert error.value.code == 4


# --- what is refused at load ------------------------------------------------------------------------------------------------------


@fault("X04", "exit 5 with the version that it needs")
def test_a_newer_run_is_refused(workspace):
    run = workspace / "runs" / PRETRAINED
    edit_card(run, schema_version=99, downscale_version="9.9")
    with pytest.raises(EnvironmentMissingError, match="format 99") as error:
        load_run(run)
    assert error.value.code == 5


class Trap:
    """Runs code when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@fault("X01", "exit 4; the file is never opened as a pickle")
def test_a_pickle_in_place_of_the_weights_is_not_opened(workspace, tmp_path):
    run = workspace / "runs" / PRETRAINED
    (run / "model.safetensors").write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    with pytest.raises(InputDataError, match="not a safetensors file"):
        load_run(run)
    assert not (tmp_path / "sprung").exists()


@fault("X02", "exit 4 with the first tensor that does not fit")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("net.head.bias"), "'net.head.bias' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is not part of this model"),
        (lambda t: t.update({"net.head.bias": torch.zeros(7)}), "'net.head.bias' is torch.float32 \\(7,\\)"),
        (lambda t: t.update({"net.head.bias": torch.zeros(2, dtype=torch.float64)}), "torch.float64"),
        (lambda t: t["net.stem.bias"].fill_(np.nan), "'net.stem.bias' holds 8 values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(workspace, change, message):
    path = workspace / "runs" / PRETRAINED / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(InputDataError, match=message):
        load_run(path.parent)


def test_a_damaged_or_foreign_folder_is_refused(workspace, tmp_path):
    run = workspace / "runs" / PRETRAINED
    edit_card(run, spec={"model": {"name": "resunet"}})
    with pytest.raises(InputDataError, match="damaged"):
        load_run(run)
    (run / "grids.nc").unlink()
    (run / "model.json").write_text("{")
    with pytest.raises(InputDataError, match="cannot be read"):
        load_run(run)
    with pytest.raises(InputDataError, match="not a finished run"):
        load_run(tmp_path)
    with pytest.raises(InputDataError, match="there is no run 'nobody'"):
        find_run(workspace, "nobody")


@fault("X03", "exit 4 with a line for each difference")
def test_inputs_of_other_channels_levels_units_or_grids_are_refused(trained, store):
    run = load_run(trained / "runs" / PRETRAINED, device="cpu")
    run.check_inputs(["tas", "zg500"], store.coarse, store.scalars, units={"tas": "K", "zg500": "m"})
    with pytest.raises(InputDataError) as error:
        run.check_inputs(["tas", "zg850"], store.fine, [*store.scalars, "GHG"], units={"tas": "degC"})
    text = "\n".join(error.value.findings)
    for part in ("zg500: the run needs it", "zg850: the run does not know it", "GHG", "units of tas: run K, input degC", "coarse grid"):
        assert part in text
    with pytest.raises(InputDataError, match="order of channels"):
        run.check_inputs(["zg500", "tas"])


@fault("S15", "`--device cuda` without a GPU: exit 5; `auto` takes the CPU and says so")
def test_cuda_without_a_gpu_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(EnvironmentMissingError, match="no GPU") as error:
        resolve_device("cuda")
    assert error.value.code == 5
