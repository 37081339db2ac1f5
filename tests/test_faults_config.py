"""Configs, names, links and paths that would lead astray (rows X05-X10, X12, X13), through the command line."""

from __future__ import annotations

import json
import shutil

import netCDF4
import numpy as np
import pytest
from conftest import EXPERIMENT, run_cli
from faults import assert_refused, fault


@pytest.fixture(scope="module")
def text_of(tiny_world):
    """text_of(data) -> config of RCM_A and GCM_A alone."""
    geometry = json.loads((tiny_world / "truth.json").read_text())["geometry"]
    boxes = {"coarse": geometry["coarse_box_edges"], "fine": 2 * geometry["target_cells"], "relaxation": geometry["relaxation_cells"]}

    def make(data=tiny_world) -> str:
        quoted = json.dumps(str(data))[1:-1]
        return "\n".join(line for line in EXPERIMENT.format(data=quoted, **boxes).splitlines() if "CM_B" not in line) + "\n"

    return make


@pytest.fixture
def write(text_of, tmp_path):
    """write(text changes...) -> path of the config."""

    def _write(*changes):
        text = text_of()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return _write


@pytest.fixture(scope="module")
def finished(text_of, tmp_path_factory):
    """A workspace with pairs, a network and its prediction."""
    config = tmp_path_factory.mktemp("finished") / "config.yaml"
    config.write_text(text_of())
    for command in (
        ("prepare", config),
        ("train", config, "--name", "net", "--set", "train.epochs=1", "--set", "train.baselines=[]"),
        ("apply", config, "--set", "apply.days=test"),
    ):
        result = run_cli(*command)
        assert result.exit_code == 0, result.output
    return config


@pytest.fixture
def workspace(finished, tmp_path):
    """A copy of it: the config's path."""
    return shutil.copytree(finished.parent, tmp_path / "copy") / "config.yaml"


def everything(folder) -> dict:
    """Names, links and bytes below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[path] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


# --- X05, X06, X07, X12 ---------------------------------------------------------------------------------------------------------


@fault("X05", "exit 2 with the line; nothing is run, no tag beyond plain YAML 1.2 is known")
@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [sprung]",
        "!!python/object/new:os.mkdir [[sprung]]",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
        "!!binary aGVsbG8=",
        "!thing {a: b}",
    ],
)
def test_yaml_that_would_run_python(write, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    config = write(("epochs: 2", f"epochs: {value}"))
    assert_refused(run_cli("prepare", config), "config.yaml", "line", code=2, untouched=tmp_path / "results")
    assert not (tmp_path / "sprung").exists()


@fault("X06", "exit 2: at most 50 aliases, 50 levels and 1 MB are read")
def test_an_alias_bomb(write, tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [{', '.join(['*b' + str(i - 1) if i else '*a'] * 9)}]\n" for i in range(9))
    assert_refused(
        run_cli("prepare", write(("workspace:", bomb + "workspace:"))), "more than 50 YAML aliases", code=2, untouched=tmp_path / "results"
    )
    endless = write(("workspace:", "a: &a {b: *a}\nworkspace:"))
    assert_refused(run_cli("prepare", endless), "without bounds", code=2, untouched=tmp_path / "results")
    deep = write(("workspace:", f"a: {'[' * 100_000}\nworkspace:"))
    assert_refused(run_cli("prepare", deep), "nested more than 50 deep", code=2, untouched=tmp_path / "results")
    big = write(("workspace:", "# " + "x" * 1_000_000 + "\nworkspace:"))
    assert_refused(run_cli("prepare", big), "bytes", code=2, untouched=tmp_path / "results")


@fault("X06", "fewer aliases that stand for aliases: exit 2 as well, at 100,000 entries in all")
def test_few_aliases_that_expand(write, tmp_path):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join(['*a' + str(i - 1)] * 6)}]\n" for i in range(1, 9))
    assert_refused(run_cli("prepare", write(("workspace:", bomb + "workspace:"))), "without bounds", code=2, untouched=tmp_path / "results")


@fault("X07", "duplicate keys, tabs and values of another type: exit 2 with the line; `1e-3` is a number, `no` is text (YAML 1.2)")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("workspace: results", "workspace: results\nworkspace: other"), ("duplicate key", "line 2")),
        (("epochs: 2", "epochs: 2, epochs: 3"), ("duplicate key", "line")),
        (("  RCM_A:", "\tRCM_A:"), ("line 3",)),
        (("epochs: 2", "epochs: 2, seed: no"), ("train.seed", "integer")),
        (("static: [orog, sftlf]", "static: yes"), ("static", "list")),
        (("test: [1997]", "test: [1997-01-01]"), ("split.test.0",)),
        (("epochs: 2", "epochs: '2'"), ("train.epochs", "integer")),
        (("epochs: 2", "epochs: 2, learning_rate: fast"), ("train.learning_rate", "number")),
    ],
)
def test_yaml_surprises(write, tmp_path, change, words):
    assert_refused(run_cli("prepare", write(change)), "config.yaml", *words, code=2, untouched=tmp_path / "results")


@fault("X07", "numbers like `1e-3` and words like `no` mean what they look like")
def test_yaml_1_2_is_understood(write, tmp_path):
    config = write(("epochs: 2", "epochs: 2, learning_rate: 1e-3, weight_decay: 1E-5"), ("workspace: results", "workspace: no"))
    result = run_cli("prepare", config, "--dry-run")
    assert result.exit_code == 0 and str(tmp_path / "no" / "pairs.zarr") in result.output


@fault("X12", "exit 2 with the line and the nearest key there is")
@pytest.mark.parametrize(
    ("old", "new", "meant"),
    [("epochs: 2", "epoch: 2", "epochs"), ("static:", "statics:", "static"), ("{to: GCM_A}", "{too: GCM_A}", "to")],
)
def test_a_misspelt_key(write, tmp_path, old, new, meant):
    assert_refused(run_cli("prepare", write((old, new))), f"did you mean '{meant}'", "line", code=2, untouched=tmp_path / "results")
    if old.startswith("epochs"):
        assert_refused(run_cli("prepare", write(), "--set", "train.learing_rate=1"), "did you mean 'learning_rate'", code=2)


@fault("X13", "exit 2 before anything is written, with the days that two periods share or the period that has none")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("split.test=[1995]", ("train and test share the days", "1995-01-01 to the end of 1995-12")),
        ("split.validation=['1995-06-01/1996-12-31']", ("train and validation share",)),
        ("split.test=['1996-1997']", ("validation and test share",)),
        ("split.test=[2050]", ("no day of the data falls into test", "2050")),
        ("split.train=['1997-1995']", ("ends before it starts",)),
        ("split.train=['spring']", ("not a period",)),
        ("split.train=[]", ("split.train", "at least 1")),
    ],
)
def test_periods_that_leak_or_are_empty(write, tmp_path, change, words):
    config = write()
    assert_refused(run_cli("prepare", config, "--set", change), *words, code=2, untouched=tmp_path / "results")


@fault("X13", "another split on the same pairs is judged again: exit 2 at train, nothing written")
def test_a_leaking_split_at_train(workspace):
    before = everything(workspace.parent / "results" / "runs")
    assert_refused(run_cli("train", workspace, "--set", "split.test=[1995]"), "train and test share", code=2)
    assert everything(workspace.parent / "results" / "runs") == before


# --- X08 ------------------------------------------------------------------------------------------------------------------------


@fault("X08", "names that become folders hold letters, digits, dot, dash and underscore only: exit 2")
def test_names_that_lead_out(write, workspace, tmp_path):
    for name in ("../A", "/etc/A", "..", "A/B", '"A B"'):
        config = write(("  RCM_A: ", f"  {name}: "))
        assert_refused(run_cli("prepare", config), "line 3", code=2, untouched=tmp_path / "results")
    for name in ("../net", "/tmp/net", "..", "a/b", "", "a;b"):
        assert_refused(run_cli("train", workspace, "--name", name), "cannot be a run's name", code=2)


@fault("X08", "a run given by a path like `..` keeps its own name: predictions stay in the workspace, or exit 4")
def test_a_run_given_by_a_path(workspace, monkeypatch):
    run = workspace.parent / "results" / "runs" / "net"
    monkeypatch.chdir(workspace.parent)
    assert_refused(run_cli("apply", workspace, "--run", "../../nobody"), "no run '../../nobody'", code=4)
    assert_refused(run_cli("apply", workspace, "--run", run / ".."), "not a finished run", code=4)
    monkeypatch.chdir(run / "state")
    shutil.rmtree(workspace.parent / "results" / "predictions")
    assert run_cli("apply", workspace, "--run", "..", "--set", "apply.days=test").exit_code == 0
    assert sorted(path.name for path in (workspace.parent / "results" / "predictions").iterdir()) == ["net"]
    assert (workspace.parent / "results" / "predictions" / "net" / "RCM_A_perfect" / "pr.nc").exists()


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@fault("X08", "crafted pair stores, run folders and predictions: exit 4, nothing read or written outside")
@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", ".."])
def test_crafted_artefacts(workspace, name):
    results = workspace.parent / "results"
    before = everything(workspace.parent.parent)
    store, card, manifest = results / "pairs.zarr" / "zarr.json", results / "runs/net/model.json", results / "predictions/net/RCM_A_perfect"
    cases = [
        (store, lambda content: content["attributes"].update(groups=[name]), ("train", workspace, "--name", "other")),
        (card, lambda content: content["spec"].update(targets=[name, "pr"]), ("apply", workspace)),
        (manifest / "prediction.json", lambda content: content.update(run=name), ("evaluate", workspace)),
        (manifest / "prediction.json", lambda content: content.update(variables=[name]), ("evaluate", workspace)),
    ]
    for path, change, command in cases:
        whole = path.read_text()
        edit_json(path, change)
        assert_refused(run_cli(*command), repr(name), path.name if path.name != "zarr.json" else "pairs.zarr", code=4)
        path.write_text(whole)
    assert everything(workspace.parent.parent) == before


# --- X09 ------------------------------------------------------------------------------------------------------------------------


@fault("X09", "exit 3 with the link and where it leads; nothing is written through it, and it stays")
@pytest.mark.parametrize(
    ("link", "folder", "command"),
    [
        ("pairs.zarr.partial", True, ("prepare", "--set", "upscale.smooth=3", "--overwrite")),
        ("pairs.zarr", True, ("prepare", "--set", "upscale.smooth=3", "--overwrite")),
        ("runs/other", True, ("train", "--name", "other", "--set", "train.epochs=1", "--set", "train.baselines=[]")),
        ("runs", True, ("train", "--name", "other", "--set", "train.epochs=1", "--set", "train.baselines=[]")),
        ("runs/net/log.txt", False, ("train", "--name", "net", "--set", "train.epochs=1", "--set", "train.baselines=[]")),
        ("predictions/net/RCM_A_perfect/tasmax.nc", False, ("apply", "--overwrite", "--set", "apply.days=test")),
        ("predictions/net/RCM_A_perfect/pr.nc.partial", False, ("apply", "--overwrite", "--set", "apply.days=test")),
        ("predictions/net", True, ("apply", "--overwrite", "--set", "apply.days=test")),
        ("scores", True, ("evaluate", "--overwrite")),
        ("report.partial", True, ("evaluate", "--overwrite")),
    ],
)
def test_links_in_the_results(workspace, tmp_path, link, folder, command):
    results, elsewhere = workspace.parent / "results", tmp_path / "elsewhere"
    place = results / link
    done = {"train": "runs/net/DONE", "apply": "predictions/net/RCM_A_perfect/prediction.json"}.get(command[0])
    if done:
        (results / done).unlink()  # so that there is something to do
    if place.exists():
        shutil.move(place, elsewhere)
    elif folder:
        elsewhere.mkdir()
    else:
        elsewhere.write_text("precious")
    place.symlink_to(elsewhere)
    before = everything(tmp_path)
    assert_refused(run_cli(command[0], workspace, *command[1:]), "symbolic link", f"{place} -> {elsewhere}", code=3)
    after = everything(tmp_path)
    assert {path: value for path, value in after.items() if path in before} == before
    assert not [path for path in after if path not in before and elsewhere in path.parents]


@fault("X09", "the workspace itself, and the folder of `apply -o`, may be links: those are the user's choice")
def test_a_linked_workspace_is_fine(workspace, tiny_world, tmp_path):
    shutil.move(workspace.parent / "results", tmp_path / "scratch")
    (workspace.parent / "results").symlink_to(tmp_path / "scratch")
    assert "nothing to do" in run_cli("prepare", workspace).output
    shutil.rmtree(tmp_path / "scratch" / "predictions")
    assert run_cli("apply", workspace, "--set", "apply.days=test").exit_code == 0
    assert (tmp_path / "scratch" / "predictions" / "net" / "RCM_A_imperfect" / "pr.nc").exists()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    files = sorted((tiny_world / "gcm" / "VGCM-A").glob("*.nc"))
    assert run_cli("apply", workspace.parent / "results" / "runs" / "net", "--input", *files, "-o", tmp_path / "out").exit_code == 0
    assert (tmp_path / "elsewhere" / "tasmax.nc").exists()


# --- X10 ------------------------------------------------------------------------------------------------------------------------


@fault("X10", "such paths work for inputs, config, workspace and outputs of the whole chain; nothing is given to a shell")
def test_strange_paths(text_of, tiny_world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a b;touch sprung" / "$(touch sprung)`touch sprung`'\"&|<>" / "größe\nΩ 氣候"
    folder.mkdir(parents=True)
    for kind in ("rcm", "gcm"):
        shutil.copytree(tiny_world / kind / "VGCM-A", folder / "data" / kind / "VGCM-A")
    config = folder / "c o\nn;f.yaml"
    config.write_text(text_of(folder / "data").replace("workspace: results", 'workspace: "my $(results) ü\\n;"'), encoding="utf-8")
    for command in ("prepare",), ("train", "--set", "train.epochs=1", "--name", "net"), ("apply", "--run", "net"):
        result = run_cli(command[0], config, *command[1:])
        assert result.exit_code == 0, result.output
    run = folder / "my $(results) ü\n;" / "runs" / "net"
    files = sorted((folder / "data" / "gcm" / "VGCM-A").glob("*.nc"))
    result = run_cli("apply", run, "--input", *files, "-o", folder / "out put;\n")
    assert result.exit_code == 0, result.output
    with netCDF4.Dataset(folder / "out put;\n" / "tasmax.nc") as file:
        assert np.isfinite(file["tasmax"][:]).all()
    assert not list(tmp_path.rglob("sprung"))
