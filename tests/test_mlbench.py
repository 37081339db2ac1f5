"""The CORDEX ML-Bench from a virtual one with the real one's names and oddities to a checked zip, and scores on held-out years."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import zipfile
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from conftest import run_cli

from downscale.errors import InputDataError, OutputExistsError
from downscale.mlbench.fixture import Extent, write_fixture
from downscale.mlbench.fixture_files import FACTS, BenchFile, write_template
from downscale.mlbench.notes import each_once
from downscale.mlbench.pack import Emulated
from downscale.profiles.mlbench import EXPERIMENTS, TARGETS, file_settings, find_domains
from downscale.profiles.mlbench_output import Template, fault_of, write_prediction

pytestmark = pytest.mark.slow

QUICK = ("--set", "model.width=4", "--set", "train.epochs=1", "--set", "train.batch_size=16", "--device", "cpu")
CELLS = 32


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("bench") / "data"
    write_fixture(directory, extent=Extent(CELLS, years=4, days=2))
    return directory


@pytest.fixture(scope="module")
def entry(bench) -> Path:
    """A submission of all three domains and both experiments."""
    out = bench.parent / "entry"
    result = run_cli("mlbench", "run", bench, "--out", out, *QUICK, "-q", "--json")
    assert result.exit_code == 0, result.stderr
    return out


def _tests(bench: Path):
    for domain in find_domains(bench):
        for training in domain.trainings:
            for test in domain.tests:
                yield domain, training, test


def test_the_fixture_has_the_benchmarks_names_and_oddities(bench):
    domains = find_domains(bench)
    assert [domain.name for domain in domains] == ["ALPS", "NZ", "SA"]
    for domain in domains:
        assert [training.name for training in domain.trainings] == list(EXPERIMENTS)
        assert len(domain.tests) == 12
        assert domain.trainings[1].predictors.name.endswith("_1961-1980_2080-2099.nc")
        assert all(training.static is not None for training in domain.trainings)
        with netCDF4.Dataset(domain.trainings[1].predictors) as file:
            fields = [name for name in file.variables if name[:2] in ("z_", "t_", "q_", "u_", "v_")]
            assert len(fields) == 15
            assert all(file[name].shape == (192, 16, 16) and file[name].dtype == np.float32 for name in fields)
    alps, nz, sa = (netCDF4.Dataset(domain.trainings[0].target) for domain in domains)
    assert (alps["pr"].dimensions, nz["pr"].dimensions) == (("time", "y", "x"), ("time", "lat", "lon"))
    assert alps["x"].units == "km" and alps["lat"].ndim == 2 and alps["lat"].bounds not in alps.variables
    assert "units" not in nz["pr"].ncattrs() and nz["time"].dtype == np.int64
    assert sa["pr"].dtype == np.float64 and sa["time"].dtype == np.float32
    assert {"time_bnds", "lon_bnds", "lat_bnds", "crs"} <= set(sa.variables)
    for file in (alps, nz, sa):
        file.close()


@pytest.mark.parametrize("name", list(FACTS))
@pytest.mark.parametrize("kind", ["target", "perfect"])
def test_time_axes_and_29_february(tmp_path, name, kind):
    days = np.array([20000228, 20000229, 20000301])
    fields = {one: np.zeros((3, 16, 16), np.float32) for one in (TARGETS if kind == "target" else ("t_850", "z_500"))}
    with BenchFile(tmp_path / "a.nc", FACTS[name], kind, ("1981-2000",), 16, other_gcm=kind == "perfect") as file:
        file.append(days, fields)
    with xr.open_dataset(tmp_path / "a.nc", decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)) as data:
        found = [(day.month, day.day, day.hour) for day in data.time.values.tolist()]
    noon = 0 if (name, kind) == ("NZ", "target") else 12
    assert found == [(m, d, noon) for m, d in ((2, 28), (2, 29), (3, 1)) if name == "ALPS" or (m, d) != (2, 29)]


def test_predictions_lie_on_the_time_and_the_coordinates_asked_for(bench, entry):
    for domain, training, test in _tests(bench):
        path = entry / f"{domain.name}_Domain" / training.name / test.window / test.condition / f"Predictions_pr_tasmax_{test.path.name}"
        with xr.open_dataset(path) as ours, xr.open_dataset(test.path) as theirs, xr.open_dataset(training.target) as target:
            assert ours.time.dtype == theirs.time.dtype and (ours.time.values == theirs.time.values).all()
            dims = ("time", "y", "x") if domain.name == "ALPS" else ("time", "lat", "lon")
            assert all(ours[name].dims == dims and ours[name].dtype == np.float32 for name in TARGETS)
            for name in ("lat", "lon", *dims[1:]):
                np.testing.assert_array_equal(ours[name].values, target[name].values)
                assert ours[name].dtype == target[name].dtype
            assert float(ours.tasmax.min()) > 200.0 and float(ours.tasmax.max()) < 350.0
            assert 0.1 < float(ours.pr.mean()) < 50.0 and ours.pr.attrs["units"] == "mm/day"
            for name in TARGETS:
                for attribute in ("grid_mapping", "bounds"):
                    assert attribute not in ours[name].attrs | ours[name].encoding


def test_days_with_missing_predictors_are_nan_and_listed(bench, entry):
    facts = json.loads(entry.with_name("entry.json").read_text())
    for domain, training, test in _tests(bench):
        name = Path(f"{domain.name}_Domain") / test.prediction(training.name)
        with xr.open_dataset(test.path) as predictors, xr.open_dataset(entry / name) as ours:
            whole = np.isfinite(predictors.t_850.values).all(axis=(1, 2))
            assert (np.isfinite(ours.tasmax.values).all(axis=(1, 2)) == whole).all()
            assert (np.isfinite(ours.pr.values).any(axis=(1, 2)) == whole).all()
            listed = facts["domains"][domain.name]["files"][str(name)]["days_without_prediction"]
            assert len(listed) == int((~whole).sum())
            faulty = domain.name == "SA" and test.condition == "imperfect" and test.gcm == "ACCESS-CM2"
            assert bool(listed) == faulty
            if listed:
                assert listed[0] == str(ours.time.values[~whole][0])[:10]


def test_values_are_those_of_apply(bench, entry):
    domain = find_domains(bench, ["NZ"])[0]
    test = domain.tests[1]
    folder = entry.with_name("entry-work") / "NZ/results/predictions" / EXPERIMENTS[0] / f"{test.source}_imperfect"
    with Emulated.at(folder) as emulated, netCDF4.Dataset(entry / "NZ_Domain" / test.prediction(EXPERIMENTS[0])) as ours:
        for name in TARGETS:
            np.testing.assert_array_equal(emulated.read(name, 0, 96), ours[name][:].filled(np.nan))


def test_the_zip_holds_everything_below_the_entrys_name(bench, entry):
    with zipfile.ZipFile(entry.with_name("entry.zip")) as archive:
        names = set(archive.namelist())
        assert archive.testzip() is None
    assert names == {f"entry/{domain.name}_Domain/{test.prediction(training.name)}" for domain, training, test in _tests(bench)}
    assert len(names) == 72


def test_scores_on_the_held_out_years(bench, entry):
    work = entry.with_name("entry-work")
    result = run_cli("mlbench", "score", work, "--season", "all", "--season", "winter", "--json", "-q")
    assert result.exit_code == 0, result.stderr
    with (work / "scores/scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["domain"], row["experiment"]) for row in rows} == {(name, one) for name in FACTS for one in EXPERIMENTS}
    found = {(row["domain"], row["experiment"], row["variable"], row["season"], row["metric"]): row for row in rows}
    row = found["NZ", EXPERIMENTS[0], "tasmax", "all", "rmse_time"]
    domain = find_domains(bench, ["NZ"])[0]
    with xr.open_dataset(domain.trainings[0].target) as target:
        truth = target.tasmax.sel(time="1980").values
    with Emulated.at(work / "NZ/results/predictions" / EXPERIMENTS[0] / f"{EXPERIMENTS[0]}_imperfect") as emulated:
        chosen = emulated.days // 10_000 == 1980
        ours = emulated.read("tasmax", 0, len(chosen))[chosen]
    rmse = np.sqrt(np.square(ours.astype(float) - truth).mean(axis=0)).mean()
    assert float(row["value"]) == pytest.approx(rmse, rel=1e-5)
    assert int(row["days"]) == 24 and int(found["NZ", EXPERIMENTS[1], "pr", "winter", "ralsd"]["days"]) == 72
    with netCDF4.Dataset(work / "scores" / f"maps_NZ_{EXPERIMENTS[0]}.nc") as maps:
        assert maps["rmse_time__tasmax__all"].shape == (CELLS, CELLS)
        assert "psd_pred__pr__winter" in maps.variables
    assert run_cli("mlbench", "score", work).exit_code == 3
    assert run_cli("mlbench", "score", work, "--overwrite", "--season", "monsoon").exit_code == 2


@pytest.fixture(scope="module")
def draws(bench):
    """Command and folder of a submission of three draws, of one domain and experiment."""
    quick = ("--domain", "SA", "--experiment", EXPERIMENTS[0], "--set", "loss.noise=2", "--set", "apply.members.number=3")
    out = bench.parent / "draws"
    command = ("mlbench", "run", bench, "--out", out, "--model", "resunet_ensemble", *QUICK, *quick, "-q", "--json")
    result = run_cli(*command)
    assert result.exit_code == 0, result.stderr
    assert "10 members, this one 3" in result.stdout
    return command, out


def test_a_config_that_is_refused_leaves_that_of_the_results(draws):
    command, out = draws
    path = out.with_name("draws-work") / "SA/config.yaml"
    before = path.read_text()
    for more, code in ((("--set", "train.epochs=2"), 3), (("--set", "apply.profile=zarr"), 2)):
        assert run_cli(*command, *more).exit_code == code
        assert path.read_text() == before and not list(path.parent.glob("*.partial"))


def test_members_go_along_a_dimension_of_their_own(draws):
    paths = sorted(draws[1].rglob("*.nc"))
    assert len(paths) == 12
    with xr.open_dataset(paths[1]) as ours:
        assert ours.tasmax.dims == ("time", "member", "lat", "lon") and ours.sizes["member"] == 3
        assert float(ours.tasmax.std("member").mean()) > 0.0
    assert run_cli("mlbench", "score", draws[1].with_name("draws-work"), "--season", "all", "-q").exit_code == 0


def test_the_same_command_again_mends_what_is_broken_and_leaves_the_rest(bench, draws):
    command, out = draws
    domain = find_domains(bench, ["SA"])[0]
    paths = [out / "SA_Domain" / test.prediction(EXPERIMENTS[0]) for test in domain.tests]
    before = [path.stat().st_mtime_ns for path in paths]
    with netCDF4.Dataset(paths[0], "a") as file:
        file["time"][0] = file["time"][0] + 1440.0
    paths[1].unlink()
    result = run_cli(*command)
    assert result.exit_code == 0, result.stderr
    assert [path.stat().st_mtime_ns for path in paths[2:]] == before[2:]
    template = Template.of(domain.trainings[0].target)
    assert [fault_of(path, template, test.path, 3) for path, test in zip(paths, domain.tests, strict=True)] == [""] * 12
    assert fault_of(paths[0], template, domain.tests[0].path, 0) == "dimensions are not time, lat, lon"
    assert fault_of(paths[0], template, domain.tests[11].path, 3) == "its time axis is not that of the predictors"
    assert fault_of(out / "none.nc", template, domain.tests[0].path, 3) == "is missing"


# --- the real templates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FACTS))
@pytest.mark.parametrize("variable", TARGETS)
def test_the_real_templates_are_matched_coordinate_by_coordinate(shared_reference, tmp_path, name, variable):
    real = shared_reference / "mlbench-templates" / f"{variable}_{name}.nc"
    if not real.is_file():
        pytest.skip(f"the templates are not here: {real}")
    write_template(tmp_path / "ours.nc", FACTS[name], variable, 128)
    with netCDF4.Dataset(real) as theirs, netCDF4.Dataset(tmp_path / "ours.nc") as ours:
        assert ours[variable].dimensions == theirs[variable].dimensions
        assert ours[variable].dtype == theirs[variable].dtype
        names = {"lat", "lon", *theirs[variable].dimensions} - {"time"}
        for axis in names:
            assert ours[axis].dimensions == theirs[axis].dimensions and ours[axis].dtype == theirs[axis].dtype
            np.testing.assert_allclose(ours[axis][:], theirs[axis][:], rtol=0, atol=2e-5)
            for attribute in ("standard_name", "units"):
                assert ours[axis].getncattr(attribute) == theirs[axis].getncattr(attribute)


@pytest.mark.parametrize("name", list(FACTS))
def test_a_prediction_on_the_real_templates_has_their_coordinates_bit_for_bit(shared_reference, bench, tmp_path, name):
    folder = shared_reference / "mlbench-templates"
    if not (folder / f"pr_{name}.nc").is_file():
        pytest.skip(f"the templates are not here: {folder}")
    test = find_domains(bench, [name])[0].tests[0]
    template = _of_templates(folder, name, tmp_path)
    fields = {one: np.full((96, 128, 128), 280.0, np.float32) for one in TARGETS}
    path = tmp_path / "prediction.nc"
    write_prediction(path, template, test.path, [(slice(0, 96), fields)], members=0, attributes={})
    for variable in TARGETS:
        with xr.open_dataset(folder / f"{variable}_{name}.nc") as theirs, xr.open_dataset(path) as ours:
            assert ours[variable].dims == theirs[variable].dims
            for axis in set(theirs.coords) - {"time"}:
                assert ours[axis].dims == theirs[axis].dims and ours[axis].dtype == theirs[axis].dtype
                np.testing.assert_array_equal(ours[axis].values, theirs[axis].values)
            xr.align(ours[variable].drop_vars("time"), theirs[variable].isel(time=0, drop=True), join="exact")


def _of_templates(folder: Path, name: str, tmp_path: Path) -> Template:
    """From the templates, held against a target made of them."""
    target = tmp_path / "target.nc"
    with xr.open_dataset(folder / f"tasmax_{name}.nc") as one, xr.open_dataset(folder / f"pr_{name}.nc") as other:
        xr.merge([one[["tasmax"]], other[["pr"]]], compat="override").to_netcdf(target)
    return Template.of(target, name, folder)


def test_templates_of_another_grid_are_refused(shared_reference, bench):
    if not (shared_reference / "mlbench-templates").is_dir():
        pytest.skip("the templates are not here")
    target = find_domains(bench, ["SA"])[0].trainings[0].target
    with pytest.raises(InputDataError, match="not on the coordinates"):
        Template.of(target, "SA", shared_reference / "mlbench-templates")


# --- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--domain", "EUR"), 2, "there is no 'EUR'"),
        (("--set", "train.seeds=[1,2]"), 2, "several seeds"),
        (("--set", "apply.profile=zarr"), 2, "plain CF files"),
        (("--set", "model.nonsense=1"), 2, "unknown key"),
    ],
)
def test_wrong_choices_are_refused_before_anything_is_computed(bench, tmp_path, arguments, code, said):
    result = run_cli("mlbench", "run", bench, "--out", tmp_path / "entry", *arguments, "-q")
    assert result.exit_code == code
    assert said in result.stderr
    assert not (tmp_path / "entry").exists()


def test_a_dry_run_writes_nothing(bench, tmp_path):
    result = run_cli("mlbench", "run", bench, "--out", tmp_path / "entry", "--dry-run", "-q", "--json")
    assert result.exit_code == 0 and "72 prediction files" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_layout_that_is_not_whole_is_refused(bench, tmp_path):
    with pytest.raises(InputDataError, match="no ML-Bench domain"):
        find_domains(tmp_path)
    root = Path(shutil.copytree(bench / "NZ", tmp_path / "NZ"))
    domain = find_domains(root)[0]
    assert domain.name == "NZ" and find_domains(root / "NZ_domain")[0].folder == root / "NZ_domain"
    hyphen = root / "NZ_domain/train/ESD_pseudo-reality"
    (root / "NZ_domain/train/ESD_pseudo_reality").rename(hyphen)
    assert find_domains(root)[0].trainings[0].predictors.parent == hyphen / "predictors"
    domain.trainings[1].target.unlink()
    with pytest.raises(InputDataError, match="target of the training predictors is missing"):
        find_domains(root)
    shutil.rmtree(root / "NZ_domain/test")
    with pytest.raises(InputDataError, match="no test predictors"):
        find_domains(root, experiments=EXPERIMENTS[:1])


def test_a_damaged_file_is_named(bench, tmp_path):
    root = Path(shutil.copytree(bench / "NZ", tmp_path / "NZ"))
    for place in ("predictors/ACCESS-CM2_1961-1980.nc", "target/pr_tasmax_ACCESS-CM2_1961-1980.nc"):
        path = root / "NZ_domain/train/ESD_pseudo_reality" / place
        whole = path.read_bytes()
        path.write_bytes(whole[:1000])
        result = run_cli("mlbench", "run", root, "--out", tmp_path / "entry", "-q")
        assert result.exit_code == 4 and path.name in result.stderr, result.stderr
        path.write_bytes(whole)


def test_a_folder_of_another_choice_is_refused(bench, tmp_path):
    (tmp_path / "entry/NZ_Domain").mkdir(parents=True)
    (tmp_path / "entry/NZ_Domain/other.nc").touch()
    result = run_cli("mlbench", "run", bench, "--out", tmp_path / "entry", "--domain", "NZ", "-q")
    assert result.exit_code == 3 and "another choice" in result.stderr


def test_a_fixture_replaces_only_a_fixture(tmp_path):
    (tmp_path / "mine.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="not empty"):
            write_fixture(tmp_path, domains=["NZ"], extent=Extent(16, 4, 2), overwrite=overwrite)


def test_units_are_the_files_own_or_the_benchmarks(tmp_path):
    path = tmp_path / "p.nc"
    with netCDF4.Dataset(path, "w") as file:
        for dim, length in (("time", 2), ("lat", 2), ("lon", 2)):
            file.createDimension(dim, length)
        for name, value in (("z_850", 14_000.0), ("z_500", 54_000.0), ("q_850", 0.01), ("t_500", 250.0)):
            file.createVariable(name, "f4", ("time", "lat", "lon"))[:] = value
        file["t_500"].units = "degC"
    found = file_settings(path, ("zg", "hus", "ta"))
    assert found["assume_units"] == {"zg": "m2 s-2", "hus": "1"}
    assert found["variables"] == {"zg": "z_{level}", "hus": "q_{level}", "ta": "t_{level}"}
    with netCDF4.Dataset(path, "a") as file:
        file["z_500"][:] = 5_500.0
    assert file_settings(path, ("zg",))["assume_units"] == {"zg": "m"}


def test_a_note_is_told_once_for_all_sources(caplog):
    logger = logging.getLogger("downscale.cf.open")
    with caplog.at_level("INFO", "downscale"), each_once():
        for source in ("A", "B", "A"):
            logger.warning("%s: %s", source, "units taken as 'K'")
        logger.warning("B: other words")
        logging.getLogger("downscale.training").warning("B: units taken as 'K'")
    assert caplog.messages.count("A: units taken as 'K'") == 2
    assert caplog.messages.count("B: units taken as 'K'") == 1
    assert "B: other words" in caplog.messages and "1 notes on other sources" in caplog.messages[-1]
