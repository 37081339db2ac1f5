"""Shared fixtures: one torch thread, real data where they are, a sample workspace built once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from submit_world import chain, nowhere, tools  # noqa: F401

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DOWNSCALE_CACHE"] = "off"
for _name in [name for name in os.environ if name.startswith("SLURM_")]:
    del os.environ[_name]  # the suite itself may run in a job; the commands it tests do not, unless a test says so
REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(autouse=True)
def _one_torch_thread(request):
    """Two OpenMP threads on a busy core are 40 times slower."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real climate files; the test skips where it is absent."""
    path = SHARED / "data"
    if not path.is_dir():
        pytest.skip(f"real data are not here: {path}")
    return path


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Folder of ESMF, CDO and ML-Bench reference results; the test skips where it is absent."""
    path = SHARED / "reference"
    if not path.is_dir():
        pytest.skip(f"reference results are not here: {path}")
    return path


CHANNELS = ("zg500", "ta850", "hus850", "ua850", "tas", "tasmax", "pr")
EXPERIMENT = """\
workspace: results
sources:
  RCM_A: {{role: rcm, files: ["{data}/rcm/VGCM-A/*.nc"]}}
  GCM_A: {{role: gcm, files: ["{data}/gcm/VGCM-A/*.nc"], drives: RCM_A}}
  RCM_B: {{role: rcm, files: ["{data}/rcm/VGCM-B/*.nc"]}}
  GCM_B: {{role: gcm, files: ["{data}/gcm/VGCM-B/*.nc"], drives: RCM_B}}
predictors: [{{name: zg, levels: [500]}}, {{name: ta, levels: [850]}}, {{name: hus, levels: [850]}}, {{name: ua, levels: [850]}}]
targets: [{{name: tasmax}}, {{name: pr}}]
static: [orog, sftlf]
domain: {{relaxation_cells: {relaxation}, coarse_box: {coarse}, fine_box: {fine}}}
upscale: {{to: GCM_A}}
split: {{train: [1995], validation: [1996], test: [1997], gap_days: 5}}
model: {{name: resunet, width: 8}}
train: {{on: [RCM_A/perfect], epochs: 2}}
finetune: {{on: [RCM_B/imperfect], epochs: 1}}
few_shot: {{on: [RCM_B/imperfect], epochs: 1, shots: 1}}
"""


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory) -> Path:
    """Files of two GCMs and their RCMs, three years, a few variables (seconds to make)."""
    from downscale.virtual.stage import write_sample_data

    directory = tmp_path_factory.mktemp("world") / "data"
    write_sample_data(directory, size="tiny", years=[(1995, 1997)], channels=CHANNELS, workers=1)
    return directory


@pytest.fixture
def experiment(tiny_world, tmp_path):
    """Write a config on the tiny world into a new folder: experiment(text replacements...) -> path."""
    import json

    geometry = json.loads((tiny_world / "truth.json").read_text())["geometry"]

    def write(*changes: tuple[str, str], data: Path | None = None) -> Path:
        text = EXPERIMENT.format(
            data=data or tiny_world,
            coarse=geometry["coarse_box_edges"],
            fine=2 * geometry["target_cells"],
            relaxation=geometry["relaxation_cells"],
        )
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


def run_cli(*arguments, **options):
    """The command line in this process; the result has exit_code, stdout, stderr."""
    from typer.testing import CliRunner

    from downscale.cli.app import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, **options)


@pytest.fixture(scope="session")
def report_page(tmp_path_factory) -> Path:
    """The report of a scores folder with every table that there is."""
    import matplotlib
    from report_world import make_world

    from downscale.report.html import make_report

    cfg = make_world(tmp_path_factory.mktemp("report"))
    before = dict(matplotlib.rcParams)
    path = make_report(cfg, config="somewhere/experiment.yaml")
    assert dict(matplotlib.rcParams) == before
    return path
