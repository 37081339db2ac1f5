"""The config: strict, with the line of every mistake; what is written loads back."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run_cli

from downscale.config.load import differences, digest, dump_yaml, load_config
from downscale.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
GOOD = """\
workspace: out
sources:
  A: {role: rcm, files: ["${DOWNSCALE_DATA}/a*.nc"]}
  G: {role: gcm, files: [g.nc], drives: A}
predictors: [{name: zg, levels: [850, 700]}, {name: tas}]
targets: [{name: tasmax}]
upscale: {to: G}
split: {train: [1990-1995], validation: [1996], test: ["1997-1998"]}
train: {on: [A/perfect], learning_rate: 1e-3, epochs: 5}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSCALE_DATA", "/data")

    def _write(text: str = GOOD) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return path

    return _write


def refused(path, overrides=()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.code == 2
    assert 1 <= len(caught.value.lines()) <= 3
    return caught.value


def test_loads_expands_and_makes_paths_absolute(write, tmp_path):
    cfg = load_config(write())
    assert cfg.train.learning_rate == 1e-3
    assert cfg.sources["A"].files == ["/data/a*.nc"]
    assert cfg.sources["G"].files == [str(tmp_path / "g.nc")]
    assert cfg.workspace == str(tmp_path / "out")
    assert [channel.name for channel in cfg.channels()] == ["zg850", "zg700", "tas"]
    assert cfg.driver_of("A") == "G"


def test_resolved_config_loads_back_to_the_same(write, tmp_path):
    cfg = load_config(write())
    (tmp_path / "resolved.yaml").write_text(dump_yaml(cfg))
    assert load_config(tmp_path / "resolved.yaml") == cfg


@pytest.mark.parametrize(
    ("change", "line", "word"),
    [
        (("epochs: 5", "epoch: 5"), 9, "did you mean 'epochs'"),
        (("learning_rate", "learing_rate"), 9, "did you mean 'learning_rate'"),
        (("{to: G}", "{to: {coarsn: 4}}"), 7, "did you mean 'coarsen'"),
        (("{to: G}", "{to: G, smooth: 4}"), 7, "4 is even"),
        (("{to: G}", "{to: G, smooth: -1}"), 7, "greater than or equal to 1"),
        (("{to: G}", "{to: H}"), 7, "'H' is not a gcm or reanalysis source"),
        (("upscale:", "evaluate: {regimes: {channel: zg500}}\nupscale:"), 7, "'zg500' is not one of the predictors' channels"),
        (("drives: A", "drives: B"), 4, "'B' is not an rcm source nor observations"),
        (("A/perfect", "A/almost"), 9, "not NAME/perfect"),
        (("epochs: 5", "epochs: five"), 9, "integer"),
        (("upscale:", "model: {name: unet_doury, dropout: 0.1}\nupscale:"), 7, "resunet)"),
        (("upscale:", "model: {name: unet_doury, static: true}\nupscale:"), 7, "resunet)"),
        (("name: tasmax", "name: tasmux"), 6, "not in the variable table"),
        (("levels: [850, 700]", "levels: []"), 5, "needs levels"),
        (("{name: tas}", "{name: tas, levels: [850]}"), 5, "no levels"),
        (("role: rcm", "role: rcn"), 3, "rcm"),
        (("  A:", "  A/../..:"), 3, "pattern"),
    ],
)
def test_a_mistake_is_named_with_its_line(write, change, line, word):
    error = refused(write(GOOD.replace(*change)))
    assert any(f"line {line}" in finding and word in finding for finding in error.findings), error.findings


def test_all_mistakes_at_once(write):
    error = refused(write(GOOD.replace("epochs: 5", "epoch: 5").replace("role: rcm", "rolle: rcm")))
    assert len(error.findings) >= 3


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "workspace: again\n",  # duplicate key
        GOOD.replace("  A:", "\tA:"),  # tab
        GOOD + "extra: !!python/object/apply:os.system ['true']\n",
        "- a\n- list\n",
        "",
        GOOD.replace("{role: rcm", "{role: rcm, role: gcm"),
        "a: &a [x, x]\n" + "".join(f"b{i}: [{', '.join(['*a'] * 9)}]\n" for i in range(9)),  # alias bomb
    ],
)
def test_yaml_that_is_refused(write, text):
    error = refused(write(text))
    assert "experiment.yaml" in error.where


def test_yaml_1_2_scalars(write):
    cfg = load_config(
        write(GOOD.replace("learning_rate: 1e-3", "learning_rate: 1e-3, weight_decay: 1E-5").replace("workspace: out", "workspace: no"))
    )
    assert cfg.train.weight_decay == 1e-5
    assert cfg.workspace.endswith("/no")


def test_environment_is_a_whitelist(write, monkeypatch):
    assert "not a variable" in refused(write(GOOD.replace("DOWNSCALE_DATA", "SECRET"))).message
    monkeypatch.delenv("DOWNSCALE_DATA")
    assert "is not set" in refused(write()).message


def test_overrides(write):
    cfg = load_config(write(), ["train.epochs=7", "predictors.0.levels=[500]", "split.gap_days=0"])
    assert (cfg.train.epochs, cfg.predictors[0].levels, cfg.split.gap_days) == (7, [500], 0)
    for bad in ("train.epochs", "train.epochs.x=1", "predictors.9.name=tas", "nothing.at=1"):
        refused(write(), [bad])


@pytest.mark.parametrize(
    ("override", "finding"),
    [
        ("train.epoch=7", "--set train.epoch: train.epoch: unknown key, did you mean 'epochs'?"),
        ("sources.B.role=gcm", "--set sources.B.role: sources.B.files: is required"),
        ("predictors.0.name=tass", "--set predictors.0.name: predictors.0.name: 'tass' is not in the variable table"),
        ("train.on=[A/almost]", "--set train.on: train.on: 'A/almost' is not NAME/perfect"),
    ],
)
def test_a_wrong_override_is_named_as_such(write, override, finding):
    error = refused(write(), [override])
    assert len(error.findings) == 1 and error.findings[0].startswith(finding), error.findings


def test_a_line_is_not_blamed_on_an_override_that_is_right(write):
    error = refused(write(GOOD.replace("epochs: 5", "epoch: 5")), ["train.batch_size=8"])
    assert [finding.split(":")[0] for finding in error.findings] == ["line 9"]


def test_missing_file_and_binary_file(tmp_path):
    refused(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    refused(tmp_path / "binary.yaml")


def test_digest_and_differences_see_every_leaf():
    one = {"a": {"b": 1, "c": [1, 2]}}
    other = {"a": {"b": 2, "c": [1, 2]}, "d": 3}
    assert digest(one) == digest({"a": {"c": [1, 2], "b": 1}}) != digest(other)
    assert differences(one, other) == ["a.b: 1 -> 2", "d: null -> 3"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_shipped_config_loads(path, monkeypatch):
    monkeypatch.setenv("DOWNSCALE_DATA", "/data")
    monkeypatch.setenv("DOWNSCALE_WORKSPACE", "/results")
    load_config(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_shipped_config_passes_check(path, monkeypatch, tmp_path, request):
    """Opens every input, builds the network, runs a batch; configs on real data where the data are."""
    monkeypatch.setenv("DOWNSCALE_DATA", str(request.getfixturevalue("shared_data")) if "DOWNSCALE_DATA" in path.read_text() else "/data")
    result = run_cli("check", path, "--set", f"workspace={tmp_path / 'results'}", "--set", "model.width=8")
    assert result.exit_code == 0, result.stderr
    assert "nothing stands in the way" in result.stdout and not (tmp_path / "results").exists()
