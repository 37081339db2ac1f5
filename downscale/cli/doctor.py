"""The machine as a table: what hpc.doctor found, and what the heavy libraries say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import typer

from downscale.cli.tables import Row, print_facts
from downscale.errors import EnvironmentMissingError
from downscale.hpc import doctor
from downscale.hpc.doctor import Finding

_MARKS = {"ok": "", "note": "note: ", "warning": "warning: ", "missing": "MISSING: "}
_TITLES = {"versions": "Versions", "machine": "This machine", "devices": "Devices", "locking": "File locking", "disk": "Disk",
           "scheduler": "Batch system"}  # fmt: skip


def show_machine(path: Path, *, json_output: bool) -> None:
    """Print what was found; EnvironmentMissingError (exit 5) when a required package is missing or broken."""
    found = [*doctor.packages(), *_loaded(), *doctor.cores_and_memory(), *doctor.disk(path), *doctor.locking(path), *doctor.scheduler()]
    missing = [finding for finding in found if finding.state == "missing"]
    if json_output:
        facts: dict[str, dict[str, dict[str, str]]] = {}
        for finding in found:
            facts.setdefault(finding.topic, {})[finding.name] = {"value": finding.value, "state": finding.state}
        typer.echo(json.dumps({"path": str(path.absolute()), "usable": not missing, "facts": facts}))
        if missing:
            raise typer.Exit(EnvironmentMissingError.code)
        return
    for topic, title in _TITLES.items():
        place = f" ({path.absolute()})" if topic in ("locking", "disk") else ""
        rows: list[Row] = [(one.name, f"{_MARKS[one.state]}{one.value}") for one in found if one.topic == topic]
        print_facts(f"{title}{place}", rows)
    if missing:
        raise EnvironmentMissingError(
            f"{len(missing)} required part{'s are' if len(missing) > 1 else ' is'} missing or broken",
            where=", ".join(finding.name for finding in missing),
            hint="install downscale-rcm again with its constraints.txt (see README)",
        )
    warnings = sum(finding.state == "warning" for finding in found)
    typer.echo(f"usable{f', with {warnings} warning(s) above' if warnings else ''}")


def _loaded() -> list[Finding]:
    """What libraries say once they are loaded; one that does not load is missing, whatever its metadata say."""
    found: list[Finding] = []
    for name, ask in (("netCDF4", _netcdf), ("torch", _torch), ("cf_units", _udunits), ("pyproj", _proj)):
        found += _asked(name, ask)
    return found


def _asked(name: str, ask: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return ask()
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else ""
        return [Finding("versions", f"{name} (loading)", f"{type(error).__name__}: {text}", "missing")]


def _netcdf() -> list[Finding]:
    import netCDF4

    text = f"netcdf-c {netCDF4.__netcdf4libversion__}, HDF5 {netCDF4.__hdf5libversion__}"
    return [Finding("versions", "netCDF4 libraries", text)]


def _udunits() -> list[Finding]:
    import cf_units

    assert cf_units.Unit("mm day-1").is_convertible("m s-1")
    return [Finding("versions", "UDUNITS (cf-units)", "loads and converts")]


def _proj() -> list[Finding]:
    import pyproj

    return [Finding("versions", "PROJ (pyproj)", pyproj.proj_version_str)]


def _torch() -> list[Finding]:
    import torch

    threads = Finding("devices", "CPU", f"{torch.get_num_threads()} PyTorch thread(s)")
    if not torch.cuda.is_available():
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        why = f"PyTorch is built for {built} and sees no device" if built else "this PyTorch is the CPU build"
        return [threads, Finding("devices", "GPU", f"none ({why}): everything runs on the CPU", "note")]
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [threads] + [
        Finding("devices", f"GPU {number}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
        for number, device in enumerate(devices)
    ]
