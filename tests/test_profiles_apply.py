"""Layouts end to end: applying in each of them, and what evaluate and the command line make of it."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import pytest
from option_world import Bench, make_world
from test_options import ALL_MONTHS, DRIVEN, NAMED
from typer.testing import CliRunner

from downscale.apply.stage import apply_run
from downscale.cli.app import app
from downscale.config.load import load_config
from downscale.errors import ConfigError, OutputExistsError
from downscale.training.modes import train_run

ROOT = Path(__file__).resolve().parents[1]
CORDEX = ("apply.profile=cordex", NAMED + ", source_id: EMUL-1, version: v20260101}", *DRIVEN)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    folder = tmp_path_factory.mktemp("profiles")
    return Bench(make_world(folder / "world"), folder / "out")


@pytest.fixture(scope="module")
def plain_scores(bench) -> str:
    return bench.outcome("evaluate", DRIVEN)


@pytest.mark.parametrize("layout", [CORDEX, ("apply.profile=zarr", *DRIVEN), ("apply.years_per_file=1", *DRIVEN)])
def test_scores_do_not_depend_on_the_layout(bench, plain_scores, layout):
    assert bench.outcome("evaluate", layout) == plain_scores
    assert "tas" in plain_scores


def test_evaluate_takes_the_first_of_members_in_files_of_their_own(bench):
    members = ("train.seeds=[0, 1]", "apply.members={of: seeds}")
    assert bench.outcome("evaluate", (*CORDEX, *members)) == bench.outcome("evaluate", (*DRIVEN, *members))


def test_the_command_names_files_by_what_the_input_says_and_what_it_is_told(bench, tmp_path):
    cfg = bench.prepared(DRIVEN)
    run = train_run(cfg, device="cpu")["artefact"]
    files = sorted((bench.config.parent / "gcm" / "base").glob("*.nc"))
    told = ["domain_id=EUR-12", "institution_id=J", "institution=J", "contact=c", "source_id=EMUL-1"]
    driver = ["driving_institution_id=I", "driving_source_id=G", "driving_experiment_id=historical", "driving_variant_label=r1i1p1f1"]
    forcings = str(bench.config.parent / "forcings.csv")
    command = ["apply", str(run), "-o", str(tmp_path / "out"), "--profile", "cordex", "--forcings", forcings]
    command += [part for path in files for part in ("--input", str(path))]
    few = CliRunner().invoke(app, [*command, *(part for one in told for part in ("--facet", one))])
    assert few.exit_code == 2, few.output
    assert "facets are missing" in few.output and not list(tmp_path.rglob("*.nc"))
    done = CliRunner().invoke(app, [*command, *(part for one in [*told, *driver] for part in ("--facet", one))])
    assert done.exit_code == 0, done.output
    written = sorted((tmp_path / "out" / "CORDEX-CMIP6").rglob("*_day_*.nc"))
    assert written and all("_G_historical_r1i1p1f1_J_EMUL-1_v1-r1_day_" in path.name for path in written)
    manifest = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert {path for paths in manifest["files"].values() for path in paths} == {
        path.relative_to(tmp_path / "out").as_posix() for path in written
    }
    with netCDF4.Dataset(written[0]) as file:
        assert file.downscale_model_id and file.activity_id == "ESD"


def test_the_emulator_does_not_take_the_name_of_its_rcm(bench):
    with pytest.raises(ConfigError, match="an emulator needs its own"):
        load_config(bench.config, ["sources.R.facets={source_id: RCM-1}", "apply.facets={source_id: RCM-1}"])


def test_missing_facets_are_an_error_before_anything_is_computed(bench):
    cfg = bench.prepared(("apply.profile=cordex", "apply.days=test"))
    train_run(cfg, device="cpu")
    with pytest.raises(ConfigError, match="facets are missing"):
        apply_run(cfg, device="cpu")
    assert not list((cfg.workspace_path() / "predictions").rglob("*.nc"))


@pytest.mark.parametrize("layout", [CORDEX, DRIVEN])
def test_every_attribute_is_on_the_page_of_attributes(bench, layout):
    cfg = bench.prepared((*layout, "apply.align=mean", "apply.align_window=[2001, 2001]", *ALL_MONTHS, "apply.significant_bits=8"))
    train_run(cfg, device="cpu")
    apply_run(cfg, device="cpu")
    files = list((cfg.workspace_path() / "predictions").rglob("*.nc"))
    assert files
    found = set()
    for path in files:
        with netCDF4.Dataset(path) as file:
            found |= {name for name in file.ncattrs() if not name.startswith("driving_")}
            found |= {name for variable in file.variables.values() if variable.name != "crs" for name in variable.ncattrs()}
    page = (ROOT / "docs" / "reference" / "attributes.md").read_text()
    assert {"downscale_model_id", "downscale_input_manifest_sha256", "quantization_nsb", "flag_masks"} <= found
    assert not {name for name in found if f"`{name}`" not in page}


def test_other_facets_are_another_recipe(bench):
    cfg = bench.prepared(CORDEX)
    train_run(cfg, device="cpu")
    apply_run(cfg, device="cpu")
    other = load_config(bench.config, [f"workspace={cfg.workspace_path()}", *CORDEX, "apply.facets.source_id=EMUL-2"])
    with pytest.raises(OutputExistsError, match="another recipe"):
        apply_run(other, device="cpu")
    apply_run(other, device="cpu", overwrite=True)
    written = list((cfg.workspace_path() / "predictions").rglob("*.nc"))
    assert written and all("EMUL-2" in path.name for path in written)
