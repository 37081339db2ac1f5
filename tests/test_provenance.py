"""What files say of their making: the driver and not the RCM, the emulator's own name, one name for one prediction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from conftest import run_cli
from option_world import Bench, make_world
from profile_world import ATTRIBUTES, FACETS, small_grid, spec_of, write
from test_options import DRIVEN, NAMED

from downscale.apply.provenance import Predictors
from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.errors import ConfigError
from downscale.grid.domains import domain_grid
from downscale.grid.grid import Grid
from downscale.profiles.cordex_grid import describe_grid
from downscale.profiles.facets import merge_facets
from downscale.profiles.output import Named, check_output, check_outputs_apart
from downscale.profiles.rules import CORDEX_CMIP6
from downscale.training.modes import train_run
from downscale.variables import TABLE

TABLES = Path(__file__).resolve().parents[2] / "shared" / "cordex-tables"
OF_AN_RCM = {
    "source_id": "VRCM1",
    "institution_id": "DWS",
    "domain_id": "EUR-12",
    "driving_source_id": "VGCM-A",
    "variant_label": "r1i1p1f1",
}
TOLD = ["domain_id=EUR-12", "institution_id=J", "institution=J", "contact=c"]
DRIVER = ["driving_institution_id=I", "driving_source_id=G", "driving_experiment_id=historical", "driving_variant_label=r1i1p1f1"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """A world whose RCM files name their model, as CORDEX files do."""
    folder = tmp_path_factory.mktemp("provenance")
    config = make_world(folder / "world")
    for path in (folder / "world/rcm/base").glob("*.nc"):
        with netCDF4.Dataset(path, "a") as file:
            file.setncatts({"source_id": "VRCM1", "driving_source_id": "VGCM-A"})
    return Bench(config, folder / "out")


@pytest.fixture(scope="module")
def trained(bench) -> Path:
    """A workspace with pairs and a run; its sources have no facets."""
    cfg = bench.prepared(("sources.R.facets={}", "sources.G.facets={}"))
    train_run(cfg, device="cpu")
    return cfg.workspace_path()


@pytest.fixture
def applied(bench, trained, tmp_path):
    """applied(*overrides, **options) -> the predictions' folder, in a workspace of its own."""

    def ask(*overrides, **options):
        if not (tmp_path / "work").exists():
            shutil.copytree(trained, tmp_path / "work")
        cfg = load_config(bench.config, [f"workspace={tmp_path / 'work'}", "apply.days=test", *overrides])
        apply_run(cfg, device="cpu", **options)
        return cfg.workspace_path() / "predictions"

    return ask


def attributes(folder, pattern="*.nc"):
    path = next(iter(sorted(folder.rglob(pattern))))
    if path.suffix == ".zarr":
        return dict(xr.open_zarr(path).attrs)
    with netCDF4.Dataset(path) as file:
        return {name: file.getncattr(name) for name in file.ncattrs()}


# --- whose facets ------------------------------------------------------------------------------------------------------------


def test_what_names_the_rcm_names_no_driver():
    merged = merge_facets(OF_AN_RCM, {"source_id": "EMUL"}, regional=True)
    assert merged == {"driving_source_id": "VGCM-A", "driving_variant_label": "r1i1p1f1", "source_id": "EMUL"}
    assert merge_facets({"source_id": "G", "institution_id": "I"}, {}) == {"driving_source_id": "G", "driving_institution_id": "I"}
    assert merge_facets({}, {"experiment_id": "ssp370", "start_date": "1"}) == {
        "driving_experiment_id": "ssp370",
        "driving_start_date": "1",
    }


def test_a_prediction_from_rcmu_has_the_drivers_name(applied):
    facets = f"sources.R.facets={json.dumps(OF_AN_RCM)}"
    folder = applied(facets, "sources.G.facets={source_id: VGCM-A, experiment_id: historical, variant_label: r1i1p1f1}")
    regional, coarse = attributes(folder, "R_perfect/*.nc"), attributes(folder, "R_imperfect/*.nc")
    assert regional["driving_source_id"] == coarse["driving_source_id"] == "VGCM-A"
    assert "driving_institution_id" not in regional and "driving_domain_id" not in regional
    assert regional["downscale_predictors"].startswith("upscaled RCM fields") and coarse["downscale_predictors"] == "GCM fields"
    assert regional["comment"].endswith("of VRCM1 driven by VGCM-A r1i1p1f1")
    assert coarse["title"].endswith("applied to VGCM-A historical r1i1p1f1")
    assert coarse["history"].endswith("apply: resunet-R-perfect to VGCM-A historical r1i1p1f1")


def test_without_facets_the_source_is_named_as_in_the_config():
    assert Predictors("G", "imperfect", {}, regional=False).words({}) == ("G", "GCM fields")
    assert Predictors("a.nc", "files", {"source_id": "G"}, regional=False, member="2").words({}) == ("G (member 2)", "given files")


@pytest.mark.parametrize(("profile", "pattern"), [("cf", "R_imperfect/*.nc"), ("zarr", "R_imperfect/*.zarr")])
def test_every_layout_states_the_facets_that_were_given(applied, profile, pattern):
    told = "apply.facets={institution: Institute J, comment: a trial, driving_source_id: CNRM, earth_radius: '6371000'}"
    found = attributes(applied(f"apply.profile={profile}", told), pattern)
    assert (found["institution"], found["driving_source_id"]) == ("Institute J", "CNRM") and "earth_radius" not in found
    assert found["comment"] == "predictors: GCM fields of CNRM; a trial"
    with pytest.raises(ConfigError) as caught:
        check_output(profile, {"institutoin": "J"}, ("tas",))
    assert "institutoin is not known" in caught.value.findings[0]


def test_the_comment_that_was_given_comes_after_that_of_the_tool(tmp_path):
    write("cordex", spec_of(tmp_path, first=20210101, last=20210103, facets={**FACETS, "comment": "a trial"}))
    assert attributes(tmp_path, "tas_*.nc")["comment"] == "predictors: GCM fields; a trial"


# --- a name of its own -------------------------------------------------------------------------------------------------------


def test_a_run_keeps_the_name_of_its_rcm_and_no_form_of_apply_takes_it(bench, trained, applied, tmp_path):
    (run,) = (trained / "runs").iterdir()
    assert json.loads((run / "model.json").read_text())["emulates"] == ["VRCM1"]
    files = [part for path in sorted((bench.config.parent / "gcm/base").glob("*.nc")) for part in ("--input", path)]
    command = ["apply", run, *files, "-o", tmp_path / "out", "--forcings", bench.config.parent / "forcings.csv", "--dry-run"]

    def with_name(name, *more):
        told = [*TOLD, *DRIVER, f"source_id={name}"]
        return run_cli(*command, *more, *(part for one in told for part in ("--facet", one)))

    for more in (("--profile", "cordex"), ()):
        refused = with_name("vrcm1", *more)
        assert refused.exit_code == 2 and "an emulator needs its own" in refused.output
        assert with_name("EMUL-1", *more).exit_code == 0
    with pytest.raises(ConfigError) as caught:
        applied("apply.facets={source_id: VRCM1}")
    assert "has learned from" in caught.value.findings[0]


def test_a_run_of_before_that_names_no_model_is_applied(applied, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "work")
    (card,) = (tmp_path / "work/runs").glob("*/model.json")
    facts = json.loads(card.read_text())
    del facts["emulates"]
    card.write_text(json.dumps(facts))
    assert list(applied().rglob("tasmax.nc"))


def test_a_run_that_goes_on_keeps_the_names_of_both(bench):
    overrides = ("workspace=" + str(bench.scratch / "on"), "sources.R.facets={source_id: SECOND}")
    cfg = bench.prepared(overrides)
    first = train_run(cfg, device="cpu")["artefact"]
    run = train_run(cfg, mode="finetune", source_run=str(first), device="cpu")["artefact"]
    assert json.loads((Path(run) / "model.json").read_text())["emulates"] == ["SECOND", "VRCM1"]


# --- refused before anything is computed ---------------------------------------------------------------------------------------


def cordex(*changes):
    return ("apply.profile=cordex", NAMED + ", source_id: EMUL-1}", *DRIVEN, *changes)


@pytest.mark.parametrize("dry_run", [True, False])
def test_days_of_another_experiment_are_refused_beforehand(applied, dry_run):
    folder = applied("apply.profile=cf")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wrong = "sources.G.facets.driving_experiment_id=ssp370"
    with pytest.raises(ConfigError, match="not of the experiment"):
        applied(*cordex(wrong), overwrite=True, dry_run=dry_run)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_grid_without_mapping_is_refused_beforehand():
    grid = small_grid()
    bare = Grid(grid.lat, grid.lon, grid.lat_corners, grid.lon_corners)
    with pytest.raises(ConfigError, match="grid mapping"):
        check_output("cordex", FACETS, ("tas",), grid=bare)
    check_output("cordex", FACETS, ("tas",), grid=grid, days=np.array([20150101]))
    with pytest.raises(ConfigError, match="not of the experiment"):
        check_output("cordex", FACETS, ("tas",), days=np.array([20141231]))


def test_predictions_with_the_same_file_names_are_refused(applied):
    same = "sources.R.facets.driving_variant_label=r1i1p1f1"
    with pytest.raises(ConfigError, match="same file names") as caught:
        applied(*cordex(same))
    assert "R_perfect" in caught.value.message and "R_imperfect" in caught.value.message and "--source" in str(caught.value.hint)
    assert list(applied(*cordex(same), sources=["G"]).rglob("pr_*.nc"))


def test_other_days_variables_or_experiments_are_other_files():
    early, late = np.array([20150101, 20151231]), np.array([20160101])
    first = Named("first", FACETS, ("tas",), early)
    check_outputs_apart("cordex", [first, Named("other", FACETS, ("tas",), late), Named("third", FACETS, ("pr",), early)])
    check_outputs_apart("cf", [first, first])
    with pytest.raises(ConfigError, match="first; other"):
        check_outputs_apart("cordex", [first, Named("other", {**FACETS, "contact": "x"}, ("pr", "tas"), early[1:])])


# --- versions, domains, grids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": {**ATTRIBUTES, "downscale_model_id": "another"}},
        {"attributes": {**ATTRIBUTES, "downscale_input_manifest_sha256": "another"}},
        {"facets": {**FACETS, "contact": "another"}},
    ],
)
def test_a_version_is_that_of_one_prediction(tmp_path, change):
    days = {"first": 20210101, "last": 20210103}
    write("cordex", spec_of(tmp_path, **days, facets={**FACETS, "version": "v20200101"}, period="20210101-20210103"))
    same = write("cordex", spec_of(tmp_path, first=20260101, last=20260103, period="20260101-20260103"))
    assert {path.parent.name for path in same.files} == {"v20200101"}
    other = write("cordex", spec_of(tmp_path, **days, period="20210101-20210103", **change))
    assert {path.parent.name for path in other.files} != {"v20200101"}
    later = write("cordex", spec_of(tmp_path, first=20260101, last=20260103, period="20260101-20260103", **change))
    assert {path.parent.name for path in later.files} == {path.parent.name for path in other.files}


def test_the_grid_in_words_has_both_spacings_and_its_domain(caplog):
    flat = Grid(*np.meshgrid(np.arange(40.0, 42.0, 0.25), np.arange(0.0, 4.0, 0.5), indexing="ij"))
    with_axes = domain_grid("EUR-12i").crop(slice(0, 4), slice(0, 6))
    assert "0.125 degree" in describe_grid(with_axes, None, "EUR-12i") and "not on the grid of EUR-12i" in caplog.text
    uneven = Grid.from_dataset(xr.Dataset(coords={"lat": flat.lat[:, 0], "lon": flat.lon[0]}))
    assert "0.5 x 0.25 degree" in describe_grid(uneven, None, "EUR-12i")
    caplog.clear()
    assert describe_grid(with_axes, None, "ANT-12").endswith("regional climate model") and "grid of ANT-12 is not known" in caplog.text
    caplog.clear()
    whole = domain_grid("EUR-12")
    shifted = Grid(whole.lat, whole.lon + 1.0, axes=whole.axes, crs=whole.crs)
    assert "not the grid" not in describe_grid(whole, whole.crs, "EUR-12") and not caplog.text
    assert "not the grid of EUR-12" in describe_grid(shifted, whole.crs, "EUR-12")


@pytest.mark.skipif(not TABLES.exists(), reason=f"no CORDEX tables at {TABLES}")
def test_domains_and_variables_are_those_of_the_archive():
    words = json.loads((TABLES / "CORDEX-CMIP6_CV.json").read_text())["CV"]
    assert sorted(CORDEX_CMIP6.domains) == sorted(words["domain_id"])
    assert set(CORDEX_CMIP6.dynamical["source_type"]) == set(words["source_type"])
    assert set(CORDEX_CMIP6.dynamical["activity_id"]) < set(words["activity_id"])
    rows = json.loads((TABLES / "CORDEX-CMIP6_day.json").read_text())["variable_entry"]
    assert set(CORDEX_CMIP6.variables) <= set(rows)
    for name in set(CORDEX_CMIP6.variables) & set(TABLE):
        row = TABLE[name]
        assert (row.file_units, row.standard_name, row.cell_methods) == tuple(
            rows[name][key] for key in ("units", "standard_name", "cell_methods")
        )
