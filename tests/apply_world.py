"""apply on pairs in memory, also as a process of its own that can be killed: ``python apply_world.py WORKSPACE SECONDS SECTION``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import netCDF4
import numpy as np
from training_world import make_config, make_store

VOLATILE = ("creation_date", "tracking_id", "history")
MODEL = {"name": "resunet", "width": 4, "backbone": "none", "dropout": 0.0}
TRAIN = {"on": ["RCM_A/perfect"], "epochs": 1, "batch_size": 32, "baselines": ["ridge"]}
NET = "resunet-RCM_A-perfect"


def world():
    """Pairs in memory; the same in every process."""
    store = make_store()
    for group in store.groups.values():
        group.attributes["notes"] = []
        type(group).notes = property(lambda self: [])
    return store


def config(workspace: Path, **section: Any):
    """An experiment on them, with its section ``apply``."""
    return make_config(workspace, train=TRAIN, model=MODEL).model_copy(update={"apply": _apply(section)})


def _apply(section: dict[str, Any]):
    from downscale.config.schema import ApplyConfig

    return ApplyConfig(**section)


def train(workspace: Path) -> None:
    """One network and one baseline."""
    from downscale.training import modes

    with patch.object(modes.PairStore, "open", classmethod(lambda cls, *arguments: world())):
        modes.train_run(config(workspace), device="cpu")


def apply(workspace: Path, section: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """apply_run on the pairs in memory."""
    from downscale.apply import jobs, stage

    with patch.object(jobs.PairStore, "open", classmethod(lambda cls, *arguments: world())):
        return stage.apply_run(config(workspace, **(section or {})), device="cpu", **options)


def contents(folder: Path) -> dict[str, Any]:
    """All variables and attributes of all files below a folder, as ncdump would show them, but for what changes from run to run."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".nc":
            with netCDF4.Dataset(path) as file:
                file.set_auto_maskandscale(False)
                found[name] = {key: str(file.getncattr(key)) for key in file.ncattrs() if key not in VOLATILE}
                for key, variable in file.variables.items():
                    about = {one: str(variable.getncattr(one)) for one in variable.ncattrs()}
                    found[f"{name}:{key}"] = (variable.dimensions, str(variable.dtype), about, variable[...].tobytes())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def fields(folder: Path, name: str) -> np.ndarray:
    """(time, y, x) of a variable over all its files."""
    files = json.loads((folder / "prediction.json").read_text())["files"][name]
    parts = []
    for file in files:
        with netCDF4.Dataset(folder / file) as dataset:
            parts.append(np.ma.filled(dataset[name][:], np.nan))
    return np.concatenate(parts)


def main() -> None:
    """Apply slowly: each block takes some time, and says so."""
    import downscale.apply.predict as predict
    from downscale.errors import DownscaleError

    workspace, seconds, section = Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])
    work = predict._emulate

    def slowly(*arguments: Any) -> np.ndarray:
        sys.stdout.write("block\n")
        sys.stdout.flush()
        time.sleep(seconds)
        return work(*arguments)

    predict._emulate = slowly
    try:
        apply(workspace, section, runs=[NET])
    except DownscaleError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.code)


if __name__ == "__main__":
    main()
