"""No stage needs a network, a home folder, or any locale, time zone or umask: the whole chain without, and under odd ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import run_cli
from faults import fault
from kill_world import differences, write_config

pytestmark = pytest.mark.slow

CODE = """
import sys
from downscale.cli.app import app
for line in sys.argv[2:]:
    try:
        app([*line.split()[:1], sys.argv[1], *line.split()[1:]], standalone_mode=False)
    except SystemExit as error:
        if error.code:
            sys.exit(f"{line}: {error.code}")
"""
NO_NETWORK = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except ConnectionRefusedError:
    sys.exit("there is a network here")
except OSError:
    pass
"""
STAGES = (
    "check",
    "prepare --workers 1",
    "train --name net --device cpu",
    "apply --workers 2 --device cpu",
    "few-shot --from net --shots 0,1 --methods head --device cpu",
    "evaluate",
    "report",
    "status",
)


def unshared() -> list[str]:
    """The command that leaves the network, where this user may; else nothing."""
    for options in (["-n"], ["-r", "-n"]):
        if shutil.which("unshare") and subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode == 0:
            return ["unshare", *options]
    return []


def commands(config: Path, *before: str, **options: Any) -> Path:
    """All stages in a process of its own; the workspace."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    command = [*before, sys.executable, "-c", (NO_NETWORK if before else "") + CODE, str(config), *STAGES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return config.parent / "results"


@pytest.fixture(scope="module")
def plain(tiny_world, tmp_path_factory) -> Path:
    """A workspace in which all stages are done, without a network where this user may leave it."""
    return commands(write_config(tmp_path_factory.mktemp("plain") / "experiment" / "config.yaml", tiny_world), *unshared())


@fault("O05", "every stage passes in a network namespace without any interface")
def test_every_stage_without_any_network(plain):
    if not unshared():
        pytest.skip("network namespaces are not permitted here")
    assert (plain / "report" / "index.html").is_file()
    assert run_cli("status", plain.parent / "config.yaml").exit_code == 0


@fault("O04", "the whole chain gives the same bits; with umask 077 what it writes is for its user alone")
def test_another_locale_time_zone_umask_and_no_home(tiny_world, tmp_path, plain):
    odd = {"LC_ALL": "fr_FR.UTF-8", "LANG": "fr_FR.UTF-8", "TZ": "Pacific/Chatham", "HOME": "/proc/nowhere"}
    config = write_config(tmp_path / "experiment" / "config.yaml", tiny_world)
    workspace = commands(config, env=odd, umask=0o077)
    found = [one for one in differences(plain, workspace) if not one.endswith(".nc")]  # attributes: the config's digest
    assert not found, found
    assert not [path for path in workspace.rglob("*") if path.stat().st_mode & 0o077]
