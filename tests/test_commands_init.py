"""downscale init: from files to a config that loads, checks clean and runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import netCDF4
import pytest
from cf_files import write, write_rotated
from conftest import run_cli

from downscale.cf.catalogue import scan
from downscale.cf.identity import identify
from downscale.cf.survey import survey
from downscale.config.choices import choose, same_model, split_years
from downscale.config.load import load_config
from downscale.errors import InputDataError


def init(*files, output, options=()):
    result = run_cli("init", *files, "-o", output, *options)
    assert result.exit_code == 0, result.output
    return load_config(output)


def ok(*arguments):
    result = run_cli(*arguments)
    assert result.exit_code == 0, result.output
    return result


def test_the_tiny_world_needs_no_hand(tiny_world, tmp_path):
    """Two RCMs and their drivers: roles, drivers, variables and split come from the files; check and prepare accept it."""
    config = tmp_path / "config.yaml"
    cfg = init(tiny_world / "rcm/*/*.nc", tiny_world / "gcm/*/*.nc", output=config)
    assert {name: (one.role, one.drives) for name, one in cfg.sources.items()} == {
        "VRCM1-VGCM-A": ("rcm", None),
        "VRCM1-VGCM-B": ("rcm", None),
        "VGCM-A": ("gcm", "VRCM1-VGCM-A"),
        "VGCM-B": ("gcm", "VRCM1-VGCM-B"),
    }
    assert [channel.name for channel in cfg.channels()] == ["zg500", "ta850", "hus850", "ua850", "tas"]
    assert [target.name for target in cfg.targets] == ["tasmax", "tas", "pr"] and cfg.static == ["orog", "sftlf"]
    assert cfg.upscale.to == "VGCM-A" and cfg.train.on == ["VRCM1-VGCM-A/perfect"]
    assert (cfg.split.train, cfg.split.validation, cfg.split.test) == (["1995"], ["1996"], ["1997-1998"])
    assert "CHECK" not in config.read_text().split("\n\n", 1)[1]
    assert "nothing stands in the way" in ok("check", config).stdout
    assert "train 3" in ok("prepare", config, "--dry-run").stdout
    assert sorted(tmp_path.iterdir()) == [config]


def test_racmo_and_a_gcm_that_did_not_drive_it(shared_data, tmp_path):
    config = tmp_path / "config.yaml"
    cfg = init(shared_data / "cordex_eur44_racmo_iberia/*.nc", shared_data / "gcm_cnrm_cm5_iberia/*.nc", output=config)
    assert (cfg.sources["KNMI-RACMO22E"].role, cfg.sources["CNRM-CM5"].role) == ("rcm", "gcm")
    assert cfg.sources["CNRM-CM5"].drives is None and cfg.driver_of("KNMI-RACMO22E") is None
    assert cfg.sources["KNMI-RACMO22E"].assume_units == {"pr": "mm/day"} and cfg.missing.gaps == "skip" and cfg.split.gap_days == 0
    text = config.read_text()
    for words in ("the files say 'mm'", "# CHECK: the steps are days", "name ICHEC-EC-EARTH as driver, which is not among", "19 gaps"):
        assert words in " ".join(text.split("#")) or words in text.replace("\n    # ", " ")
    checked = ok("check", config).stdout
    assert "still marked CHECK by init: line" in checked and "units taken as 'mm/day'" in checked
    ok("prepare", config, "--dry-run")


def test_reanalysis_to_observations_with_two_coarse_grids(shared_data, tmp_path):
    config = tmp_path / "config.yaml"
    folder = shared_data / "ncep_eobs_iberia"
    cfg = init(folder / "target/*.nc", folder / "predictors_dailymean/*.nc", output=config)
    assert (cfg.sources["EOBS"].role, cfg.sources["NCEP"].role, cfg.sources["NCEP"].drives) == ("observations", "reanalysis", "EOBS")
    assert cfg.channels()[0].name == "tas" and cfg.train.on == ["EOBS/imperfect"]
    assert "NCEP has several grids" in config.read_text()
    ok("check", config)
    ok("prepare", config, "--dry-run")


def test_an_existing_config_stays(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("mine")
    result = run_cli("init", tmp_path / "none.nc", "-o", config)
    assert result.exit_code == 3 and "--overwrite" in result.stderr and config.read_text() == "mine"


def test_a_folder_cannot_be_the_config(tmp_path):
    result = run_cli("init", tmp_path / "none.nc", "-o", tmp_path, "--overwrite")
    assert result.exit_code == 2 and "-o config.yaml" in result.stderr


def test_files_without_anything_fine_are_told_apart_and_refused(tmp_path):
    write(tmp_path / "a.nc", attrs={"long_name": "t"})
    result = run_cli("init", tmp_path / "a.nc", "-o", tmp_path / "config.yaml")
    assert result.exit_code == 4 and "nothing fine to learn from" in result.stderr and "(gcm)" in result.stderr
    assert not (tmp_path / "config.yaml").exists()


def test_without_attributes_grids_decide_and_guesses_are_marked(tmp_path):
    """A rotated and a regular run without a single global attribute, on the same days."""
    (tmp_path / "fine").mkdir()
    (tmp_path / "coarse").mkdir()
    write_rotated(tmp_path / "fine" / "x.nc", name="tas")
    write(tmp_path / "coarse" / "y.nc", calendar="360_day", first=20010101, last=20010110)
    cfg = init(tmp_path / "fine", tmp_path / "coarse", output=tmp_path / "config.yaml")
    assert {name: (one.role, one.drives) for name, one in cfg.sources.items()} == {"fine": ("rcm", None), "coarse": ("gcm", "fine")}
    text = (tmp_path / "config.yaml").read_text()
    assert "role: gcm    # CHECK" in text and "drives: fine    # CHECK: the same calendar and days" in text


def test_units_that_say_nothing_are_left_to_the_user(tmp_path):
    (tmp_path / "fine").mkdir()
    write_rotated(tmp_path / "fine" / "t.nc", name="tas")
    write_rotated(tmp_path / "fine" / "p.nc", name="pr", units="")
    cfg = init(tmp_path / "fine/*.nc", output=tmp_path / "config.yaml")
    assert cfg.sources["fine"].assume_units == {} and cfg.upscale.to.coarsen >= 2
    text = (tmp_path / "config.yaml").read_text()
    assert "# assume_units: {pr:" in text and "CHECK: say what the units are" in text


def test_files_of_other_runs_in_the_same_folder_are_not_taken(tmp_path):
    """Two runs in one folder: each source's patterns name its own files only; what is not daily is left out and said."""
    for member in (1, 2):
        for variable, first in (("tas", 2001), ("tas", 2002), ("tasmax", 2001)):
            name = f"{variable}_EUR-44_ECMWF-ERAINT_evaluation_r{member}i1p1_KNMI-RACMO22E_v1_day_{first}0101-{first}0110.nc"
            write_rotated(tmp_path / name, name=variable)
    write(tmp_path / "monthly.nc", days=[20010115, 20010215, 20010315], bounds=False)
    runs, left_out = survey(scan([str(tmp_path / "*.nc")]))
    assert [len(run.files) for run in runs] == [3, 3] and len(left_out) == 1 and "monthly.nc" in left_out[0]
    cfg = init(tmp_path / "*.nc", output=tmp_path / "config.yaml")
    patterns = [one.files for one in cfg.sources.values()]
    assert [[Path(pattern).name for pattern in one] for one in patterns] == [
        [f"*_EUR-44_ECMWF-ERAINT_evaluation_r{member}i1p1_KNMI-RACMO22E_v1_day_*.nc"] for member in (1, 2)
    ]
    assert [len(scan(one)) for one in patterns] == [3, 3]


def test_nothing_in_names_and_attributes_gets_into_the_yaml(tmp_path):
    """Newlines, quotes and YAML signs stay what they are: text."""
    folder = tmp_path / "data: [x]\nworkspace: elsewhere #"
    folder.mkdir()
    path = write_rotated(folder / "t.nc")
    write(folder / "monthly\nsplit: {}.nc", days=[20010115, 20010215, 20010315], bounds=False)
    with netCDF4.Dataset(path, "a") as dataset:
        dataset.setncatts(
            {"model_id": "M: 'x'\nworkspace: evil", "driving_model_id": "D\n- y", "CORDEX_domain": "EUR-44", "institute_id": "no"}
        )
    cfg = init(folder, output=tmp_path / "config.yaml")
    (name,) = cfg.sources
    assert cfg.workspace == str(tmp_path / "results" / name) and name == "M-x-workspace-evil"
    assert cfg.sources[name].facets["source_id"] == "M: 'x' workspace: evil" and cfg.sources[name].facets["institution_id"] == "no"
    assert [header.path for header in scan(cfg.sources[name].files)] == [path]


def test_signs_of_globs_in_file_names_are_quoted(tmp_path):
    write_rotated(tmp_path / "t[1].nc", name="tas")
    write(tmp_path / "t1.nc", name="tas", days=[20010115, 20010215, 20010315], bounds=False)
    cfg = init(tmp_path, output=tmp_path / "config.yaml")
    (source,) = cfg.sources.values()
    assert [header.path.name for header in scan(source.files)] == ["t[1].nc"]


def test_a_data_root_from_the_environment_is_kept(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setenv("DOWNSCALE_DATA", str(tiny_world))
    init(tiny_world / "rcm/VGCM-A/*.nc", output=tmp_path / "config.yaml")
    assert '"${DOWNSCALE_DATA}/rcm/VGCM-A/*.nc"' in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tas_EUR-44_ICHEC-EC-EARTH_historical_r1i1p1_KNMI-RACMO22E_v1_day_DJF.nc", ("rcm", "KNMI-RACMO22E", "ICHEC-EC-EARTH", "r1i1p1")),
        ("pr_EUR-12_MPI-ESM1-2-HR_ssp370_r1i1p1f1_GERICS_REMO2020_v1-r1_day_2015.nc", ("rcm", "REMO2020", "MPI-ESM1-2-HR", "r1i1p1f1")),
        ("ta850_day_CNRM-CM5_historical_r1i1p1_DJF_iberia.nc", ("gcm", "CNRM-CM5", "", "r1i1p1")),
        ("psl_day_MIROC6_ssp585_r2i1p1f1_gn_20150101-20241231.nc", ("gcm", "MIROC6", "", "r2i1p1f1")),
        ("tg_EOBS-v14_0.50deg.nc", ("observations", "EOBS", "", "")),
        ("era5_t850_2001.nc", ("reanalysis", "era5", "", "")),
        ("something.nc", ("", "", "", "")),
    ],
)
def test_file_names_tell_who_made_them(tmp_path, name, expected):
    found = identify(scan([str(write(tmp_path / name))])[0])
    assert (found.kind, found.model, found.driver, found.member) == expected


@pytest.mark.parametrize(
    ("one", "other", "same"), [("CNRM-CERFACS-CNRM-CM5", "CNRM-CM5", True), ("EC-EARTH", "EC-Earth3", False), ("", "", False)]
)
def test_models_are_the_same_with_and_without_their_institution(one, other, same):
    assert same_model(one, other) is same


def days(*years):
    return [year * 10000 + month * 100 + day for year in years for month in range(1, 13) for day in range(1, 29)]


def test_the_split_keeps_years_whole_and_leaves_no_day_over():
    years = split_years(days(*range(1981, 2001)))
    assert (years.train, years.validation, years.test) == (("1981-1994",), ("1995-1997",), ("1998-2001",))
    both = split_years(days(*range(1995, 2001), *range(2090, 2096)))
    assert both.train == ("1995-1998", "2090-2093") and both.test == ("2000-2001", "2095-2096")
    winters = split_years([year * 10000 + month * 100 + day for year in range(1981, 2001) for month in (1, 2, 12) for day in range(1, 29)])
    assert winters.gap_days == 0 and winters.year_starts == 12
    short = split_years(days(2001))
    assert "/" in short.train[0] and short.year_starts == 1
    with pytest.raises(InputDataError, match="no day in common"):
        split_years([])
    with pytest.raises(InputDataError, match="3 days to learn from: too few"):
        split_years(days(2001)[:3])
    four = split_years(days(2001)[:4])
    spans = [tuple(part[0].split("/")) for part in (four.train, four.validation, four.test)]
    assert spans[0][1] < spans[1][0] and spans[1][1] < spans[2][0]


def test_a_small_grid_is_not_merged_away(tmp_path):
    """Without a coarse run, blocks of about 150 km; but a cut of few cells keeps some coarse ones."""
    write_rotated(tmp_path / "tas.nc", name="tas")
    (run,), _ = survey(scan([tmp_path]))
    for shape, blocks in (((100, 120), 12), ((10, 7), 2), ((24, 40), 6)):
        cut = replace(run, shape=shape, spacing_km=12.5, grid_key="one")
        assert choose([cut]).upscale == {"coarsen": blocks}


def test_json_lists_what_to_look_at(tmp_path):
    write_rotated(tmp_path / "p.nc", name="pr", units="mm")
    write_rotated(tmp_path / "t.nc", name="tas")
    result = ok("init", tmp_path / "*.nc", "-o", tmp_path / "c.yaml", "--json")
    summary = json.loads(result.stdout)["summary"]
    assert summary["look at"] == [
        "assume_units: {pr: mm/day}    # CHECK: the steps are days, so this is the likely meaning; recorded in every artefact"
    ]
