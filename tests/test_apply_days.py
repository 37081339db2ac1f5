"""Files given to a run folder: days that only some channels have, other calendars, and errors in the words of the command."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from conftest import run_cli
from faults import fault
from option_world import COARSE, FIRST, LAST, Bench, _file, make_world
from test_options import DRIVEN, DROPOUT

from downscale.apply import hints
from downscale.apply.checks import calendar_notes
from downscale.apply.jobs import config_jobs
from downscale.apply.write import _who
from downscale.cf.calendar import expected_days
from downscale.training.modes import train_run
from downscale.training.run import load_run

ROOT = Path(__file__).resolve().parents[1]
EARLY = 20010331


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    folder = tmp_path_factory.mktemp("days")
    return Bench(make_world(folder / "world"), folder / "out")


@pytest.fixture(scope="module")
def runs(bench) -> Path:
    """Folders of a network and of the bilinear baseline."""
    return Path(train_run(bench.prepared((*DRIVEN, "train.baselines=[bilinear]")), device="cpu")["artefact"]).parent


@pytest.fixture
def ask(bench, runs, tmp_path):
    """ask(files, *more, run=, out=) -> what the command gives."""

    def asked(files, *more, run="resunet", out="out"):
        world, (folder,) = bench.config.parent, runs.glob(f"{run}*")
        given = [part for path in files for part in ("--input", path)]
        forcings = ["--forcings", world / "forcings.csv"]
        return run_cli("apply", folder, *given, "-o", tmp_path / out, *forcings, "--device", "cpu", *more)

    return asked


def input_files(bench: Bench, folder: Path, **changes: object) -> list[Path]:
    """The GCM's files; those named in ``changes`` written anew with other days, calendar ..."""
    shutil.copytree(bench.config.parent / "gcm/base", folder)
    for name, change in changes.items():
        _file(folder / f"{name}.nc", name, COARSE, 0.1, **change)
    return sorted(folder.glob("*.nc"))


def read(folder: Path, name: str) -> tuple[dict, np.ndarray]:
    """prediction.json, and a field."""
    with netCDF4.Dataset(folder / f"{name}.nc") as file:
        return json.loads((folder / "prediction.json").read_text()), np.ma.filled(file[name][:], np.nan)


def written(result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


@fault("T05", "`apply RUN --input`: days that a channel lacks, also at its ends or for years, are NaN and listed")
def test_days_that_a_channel_lacks_are_missing_and_listed(bench, ask, tmp_path):
    lacking = expected_days(20010401, LAST, "standard").tolist()
    written(ask(input_files(bench, tmp_path / "all"), out="whole"))
    whole = read(tmp_path / "whole", "pr")[1]
    text = written(ask(input_files(bench, tmp_path / "in", ta={"last": EARLY}), "--set", "apply.block_days=30"))
    record, fields = read(tmp_path / "out", "pr")
    assert record["missing_days"] == lacking and len(fields) == len(whole)
    assert "channels have different days" in text and "ta850: 2001-01-01 to 2001-03-31, 90 days" in text
    assert np.isnan(fields[-len(lacking) :]).all()
    np.testing.assert_array_equal(fields[: -len(lacking)], whole[: -len(lacking)])
    with netCDF4.Dataset(tmp_path / "out/pr.nc") as file:
        assert np.ma.getmaskarray(file["ood_flag"][:]).tolist() == [False] * 90 + [True] * len(lacking)


def test_the_bilinear_baseline_lists_days_without_the_fields_that_it_reads(bench, ask, tmp_path):
    some = {"last": EARLY}
    written(ask(input_files(bench, tmp_path / "in", pr=some, tasmax=some), run="bilinear"))
    record, fields = read(tmp_path / "out", "tasmax")
    assert record["missing_days"] == expected_days(20010401, LAST, "standard").tolist()
    assert np.isfinite(fields[:90]).all() and np.isnan(fields[90:]).all()


def test_channels_without_a_common_day_are_refused(bench, ask, tmp_path):
    result = ask(input_files(bench, tmp_path / "in", ta={"first": 20020101, "last": 20020131}))
    assert result.exit_code == 4 and "none in common" in result.output


def test_another_calendar_than_that_of_the_training_is_said(bench, ask, runs, tmp_path):
    noleap = {name: {"calendar": "noleap"} for name in ("tas", "ta", "tasmax", "pr")}
    words = "calendar noleap, and the run was trained on standard"
    assert words in written(ask(input_files(bench, tmp_path / "in", **noleap)))
    assert any(words in note for note in read(tmp_path / "out", "pr")[0]["notes"])
    assert "trained on" not in written(ask(input_files(bench, tmp_path / "standard"), out="plain"))
    (path,) = runs.glob("resunet*")
    run = load_run(path, device="cpu")
    assert run.card["calendars"] == ["standard"] and "| calendar | standard |" in (path / "MODEL.md").read_text()
    del run.card["calendars"]  # as in runs of an earlier version
    assert not calendar_notes(run, "input", "noleap")


def test_draws_for_rcmu_and_gcm_of_one_group_are_of_their_own(bench):
    cfg = bench.prepared((*DRIVEN, *DROPOUT))
    train_run(cfg, device="cpu")
    draws = [_who(job)[1] for job in config_jobs(cfg, [], [], "cpu")]
    assert len({one.key for one in draws}) == len(draws) == 2


# --- hints -------------------------------------------------------------------------------------------------------------------------


def test_hints_name_options(bench, ask, tmp_path):
    files = input_files(bench, tmp_path / "in", ta={"units": "furlong"})
    for more, remedy in (((), "--assume-units ta=K"), (("--member", "1"), "leave --member out")):
        result = ask(input_files(bench, tmp_path / f"in{len(more)}") if more else files, *more)
        assert result.exit_code == 4 and remedy in result.output and "sources.NAME" not in result.output
    result = ask([path for path in files if path.name != "ta.nc"])
    assert "ncrename -v NAME_IN_FILE,ta FILE" in result.output


def test_hints_while_fields_are_read_name_options(bench, ask, tmp_path):
    data = np.full((181, 8, 9), 3000.0)
    result = ask(input_files(bench, tmp_path / "in", ta={"first": FIRST, "data": data}))
    assert result.exit_code == 4 and "--assume-units ta=UNITS" in result.output and "--fill-value NUMBER" in result.output


def test_what_names_an_output_is_asked_for_by_options(bench, ask, tmp_path):
    result = ask(input_files(bench, tmp_path / "in"), "--profile", "cordex", "--facet", "domain_id=EUR-12")
    assert (
        result.exit_code == 2
        and "--facet source_id is missing" in result.output
        and "--facet driving_source_id is missing" in result.output
    )
    assert "sources.NAME" not in result.output and "config" not in result.output


def _hints(path: Path) -> list[str]:
    """Hints in a module, with words for what they are filled with."""
    filled = {"remedy": "ta: NAME_{level}", "chosen": "source_id: X"}
    found = [text.replace("{{", "<").replace("}}}", "}>").replace("}}", ">") for text in re.findall(r'hint=f?"(.*)"', path.read_text())]
    texts = [re.sub(r"{(\w+)[^}]*}", lambda one: filled.get(one[1], "x"), text) for text in found]
    return [text.replace("<", "{").replace(">", "}") for text in texts]


def test_no_hint_of_reading_speaks_of_a_config():
    modules = [path for path in (ROOT / "downscale/cf").glob("*.py") if path.name not in ("fixed.py", "catalogue.py")]
    found = [text for path in (*modules, ROOT / "downscale/pairs/winds.py") for text in _hints(path) if "sources.NAME" in text]
    assert len(found) > 8
    assert not [text for text in map(hints._told, found) if "sources.NAME" in text or "config" in text]
