"""No stage needs a network: the whole chain in a network namespace that has no interface, not even loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from conftest import run_cli
from kill_world import write_config

CODE = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except ConnectionRefusedError:
    sys.exit("there is a network here")
except OSError:
    pass
from downscale.cli.app import app
for line in sys.argv[2:]:
    try:
        app([*line.split()[:1], sys.argv[1], *line.split()[1:]], standalone_mode=False)
    except SystemExit as error:
        if error.code:
            sys.exit(f"{line}: {error.code}")
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
    """The command that leaves the network, where this user may."""
    for options in (["-n"], ["-r", "-n"]):
        if shutil.which("unshare") and subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode == 0:
            return ["unshare", *options]
    pytest.skip("network namespaces are not permitted here")


def test_every_stage_without_any_network(tiny_world, tmp_path):
    config = write_config(tmp_path / "experiment" / "config.yaml", tiny_world)
    command = [*unshared(), sys.executable, "-c", CODE, str(config), *STAGES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (config.parent / "results" / "report" / "index.html").is_file()
    assert run_cli("status", config).exit_code == 0
