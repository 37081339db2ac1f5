"""The list of input files that a prediction states: which files, what of them, and the digest in the attributes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import netCDF4
import pytest
from conftest import run_cli
from option_world import Bench, make_world
from test_options import DRIVEN, NAMED

from downscale.apply import input_files
from downscale.apply.input_files import InputFiles
from downscale.apply.stage import apply_run
from downscale.errors import ConfigError
from downscale.hpc.signals import Interrupted
from downscale.training.modes import train_run

CORDEX = ("apply.profile=cordex", NAMED + ", source_id: EMUL-1, version: v20260101}", *DRIVEN)
ENTRY = {"path", "size", "mtime", "fingerprint", "sha256"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    folder = tmp_path_factory.mktemp("inputs")
    return Bench(make_world(folder / "world"), folder / "out")


@pytest.fixture(scope="module")
def workspace(bench) -> Path:
    """Predictions from RCMu and GCM, with hashes of their inputs."""
    cfg = bench.prepared((*CORDEX, "apply.hash_inputs=true"))
    train_run(cfg, device="cpu")
    apply_run(cfg, device="cpu")
    return cfg.workspace_path()


def stated(folder: Path) -> tuple[list[dict], str]:
    """The list of an archive's files, and the digest of it in each of them."""
    (manifest,) = folder.glob("manifest*.json")
    digests = set()
    for path in (folder / "CORDEX-CMIP6").rglob("*.nc"):
        with netCDF4.Dataset(path) as file:
            digests.add(file.downscale_input_manifest_sha256)
    (digest,) = digests
    return json.loads(manifest.read_text())["inputs"], digest


@pytest.mark.parametrize(("kind", "role"), [("perfect", "rcm"), ("imperfect", "gcm")])
def test_the_list_is_of_the_files_that_were_applied_to(bench, workspace, kind, role):
    (folder,) = workspace.glob(f"predictions/*/R_{kind}")
    inputs, digest = stated(folder)
    world = bench.config.parent
    assert {entry["path"] for entry in inputs} <= {str(path) for path in (world / role / "base").glob("*.nc")}
    assert len(inputs) >= 4 and all(set(entry) >= ENTRY for entry in inputs)
    for entry in inputs:
        assert entry["sha256"] == hashlib.sha256(Path(entry["path"]).read_bytes()).hexdigest()
    assert digest == hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def test_the_list_of_given_files(bench, workspace, tmp_path):
    (run,) = (workspace / "runs").glob("resunet*")
    given = [part for path in sorted((bench.config.parent / "gcm/base").glob("*.nc")) for part in ("--input", path)]
    facets = "domain_id=EUR-12 institution_id=J institution=J contact=c source_id=E driving_institution_id=I driving_source_id=G"
    facets += " driving_experiment_id=historical driving_variant_label=r1i1p1f1"
    named = [part for one in facets.split() for part in ("--facet", one)]
    command = ["apply", run, *given, "-o", tmp_path / "out", "--forcings", bench.config.parent / "forcings.csv", "--profile", "cordex"]
    result = run_cli(*command, *named, "--device", "cpu", "--set", "apply.hash_inputs=true")
    assert result.exit_code == 0, result.output
    inputs, digest = stated(tmp_path / "out")
    assert len(inputs) == 4 and all(set(entry) == ENTRY for entry in inputs)
    assert digest == hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def test_the_digest_is_of_the_list_in_prediction_json(bench, workspace, tmp_path):
    (run,) = (workspace / "runs").glob("resunet*")
    given = [part for path in sorted((bench.config.parent / "gcm/base").glob("*.nc")) for part in ("--input", path)]
    result = run_cli("apply", run, *given, "-o", tmp_path / "out", "--forcings", bench.config.parent / "forcings.csv", "--device", "cpu")
    assert result.exit_code == 0, result.output
    inputs = json.loads((tmp_path / "out/prediction.json").read_text())["input_files"]
    with netCDF4.Dataset(tmp_path / "out/pr.nc") as file:
        assert file.downscale_input_manifest_sha256 == hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def test_hashes_are_for_a_layout_that_lists_files(bench):
    with pytest.raises(ConfigError) as caught:
        bench.load(("apply.hash_inputs=true", *DRIVEN))
    assert "only profile cordex lists the input files" in str(caught.value)


def test_a_file_that_is_another_by_now_has_no_hash(tmp_path, caplog):
    path = tmp_path / "a.nc"
    path.write_text("old")
    os.utime(path, (0, 0))
    entry = {"path": str(path), "size": 3, "mtime": "1970-01-01T00:00:00Z"}
    there, older = (InputFiles([one], hashed=True).listed[0] for one in (entry, {**entry, "mtime": "1969-01-01T00:00:00Z"}))
    assert there["sha256"] == hashlib.sha256(b"old").hexdigest() and "sha256" not in older
    path.unlink()
    assert "sha256" not in InputFiles([entry], hashed=True).listed[0]
    assert "are not there as they were read" in caplog.text


def test_pairs_of_before_that_name_no_source_list_all_files():
    entries = [{"path": "r.nc", "size": 1, "source": "R"}, {"path": "g.nc", "size": 1, "source": "G"}]
    assert [entry["path"] for entry in InputFiles.of_source(entries, "G").listed] == ["g.nc"]
    assert len(InputFiles.of_source([{"path": "r.nc"}, {"path": "g.nc"}], "G").listed) == 2


def test_hashes_are_made_before_the_first_period(bench, monkeypatch):
    cfg = bench.prepared((*CORDEX, "apply.hash_inputs=true"))
    train_run(cfg, device="cpu")

    def interrupted(path):
        raise Interrupted(signal.SIGTERM)

    input_files._sha256.cache_clear()
    monkeypatch.setattr(input_files, "sha256", interrupted)
    with pytest.raises(Interrupted):
        apply_run(cfg, device="cpu")
    assert not (cfg.workspace_path() / "predictions").exists()
