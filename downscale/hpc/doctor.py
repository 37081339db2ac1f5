"""What a machine offers: versions, cores, memory, disk, locking, scheduler. Plain facts, nothing scientific is imported."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import platform
import resource
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downscale.config.folders import cache_folder, to_disk

DISTRIBUTION = "downscale-rcm"
REQUIRED = ("numpy", "scipy", "xarray", "netCDF4", "cftime", "cf-units", "pyproj", "zarr", "dask", "distributed", "torch", "safetensors",
            "pydantic", "ruamel.yaml", "typer", "rich", "matplotlib", "jinja2")  # fmt: skip
OPTIONAL = {"xesmf": "upscale.engine: xesmf; environment.yml brings it with conda"}
SLURM_COMMANDS = ("sbatch", "srun", "squeue", "scancel")
OAR_COMMANDS = ("oarsub", "oarstat")
_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60
_LOCKING = "HDF5_USE_FILE_LOCKING"
_LOCK_ERRORS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, 524}
"""524 (ENOTSUPP) is what Lustre and some NFS servers answer."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        topic: the part of the machine.
        name: what was looked at.
        value: what was found, in words.
        state: "ok", "note" (works, worth knowing), "warning" or "missing" (a required part is not there).
    """

    topic: str
    name: str
    value: str
    state: str = "ok"


def packages() -> list[Finding]:
    """Versions of Python and of the packages that are needed, and what the missing optional ones would give."""
    found = [
        Finding("versions", "python", platform.python_version()),
        Finding("versions", "downscale", _version(DISTRIBUTION) or "not installed"),
    ]
    for name in REQUIRED:
        version = _version(name)
        found.append(Finding("versions", name, version or "not installed: install downscale-rcm again", "ok" if version else "missing"))
    for name, gives in OPTIONAL.items():
        version = _version(name)
        found.append(Finding("versions", name, version or f"not installed (optional): {gives}", "ok" if version else "note"))
    return found


def cores_and_memory() -> list[Finding]:
    """Cores this process may use, memory that is free, and the limit that a container or a job sets."""
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    found = [Finding("machine", "cores", f"{usable} usable of {present}" + (f", OMP_NUM_THREADS={threads}" if threads else ""))]
    free, total = memory()
    found.append(Finding("machine", "memory", f"{_size(free)} free of {_size(total)}"))
    limit = memory_limit()
    found.append(Finding("machine", "memory limit", _size(limit) + " (cgroup of this job or container)" if limit else "none set"))
    return found


def memory() -> tuple[int, int]:
    """Free and total bytes of memory; the limit of the job counts as total where it is lower."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free, total = (int(lines[key].split()[0]) * 1024 for key in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        free = total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    return (min(free, limit), min(total, limit)) if limit else (free, total)


def resident() -> int:
    """Bytes of memory that this process holds now; its peak so far where the system tells no more."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory_limit() -> int | None:
    """The memory limit of this process's cgroup, or of one above it, in bytes; None where there is none."""
    limits = []
    for folder in _own_cgroups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))
    lowest = min(limits, default=_UNLIMITED)
    return lowest if lowest < _UNLIMITED else None


def _own_cgroups() -> list[Path]:
    """Folders of the cgroups of this process (version 2, or the memory controller of version 1) and of all above them."""
    folders = [_CGROUPS, _CGROUPS / "memory"]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                own = _CGROUPS / controllers / path.lstrip("/")
                folders += [own, *(above for above in own.parents if above.is_relative_to(_CGROUPS))]
    return folders


def disk(folder: Path) -> list[Finding]:
    """Free space and inodes where a folder is or would be made, and whether one may write there."""
    there = nearest_folder(folder)
    space, stats = shutil.disk_usage(there), os.statvfs(there)
    writable = is_writable(folder)
    found = [
        Finding("disk", "free space", f"{_size(space.free)} of {_size(space.total)}", "ok" if space.free > 2**30 else "warning"),
        Finding("disk", "writable", "yes" if writable else "no: results cannot go here", "ok" if writable else "warning"),
    ]
    if stats.f_files:
        few = stats.f_favail < 10_000
        found.append(Finding("disk", "free inodes", f"{stats.f_favail:,} of {stats.f_files:,}", "warning" if few else "ok"))
    cache = cache_folder()
    said = str(cache) if cache else "none ($DOWNSCALE_CACHE is off, or its folder cannot be written): headers are read anew each time"
    return [*found, Finding("disk", "cache of file headers", said, "ok" if cache else "note")]


def is_writable(folder: Path) -> bool:
    """Whether a folder may be made or written."""
    return (folder.is_dir() or not folder.exists()) and os.access(nearest_folder(folder), os.W_OK | os.X_OK)


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = path.absolute()
    return path if path.is_dir() else nearest_folder(path.parent)


def locking(folder: Path) -> list[Finding]:
    """What downscale relies on when it writes: exclusive creation, rename, fsync; and what HDF5 does about locks."""
    found = []
    try:
        with tempfile.TemporaryDirectory(prefix=".downscale-doctor-", dir=nearest_folder(folder)) as name:
            found = [Finding("locking", what, *_tried(work, Path(name))) for what, work in _TRIALS.items()]
    except OSError as error:
        found = [Finding("locking", "trial", f"not possible: {error.strerror}", "warning")]
    return [*found, Finding("locking", _LOCKING, os.environ.get(_LOCKING, "not set (HDF5 locks the files it opens)"))]


def _tried(work: Any, folder: Path) -> tuple[str, str]:
    try:
        work(folder)
    except (OSError, AssertionError) as error:
        number = getattr(error, "errno", None)
        if number in _LOCK_ERRORS and os.environ.get(_LOCKING) == "FALSE":
            return f"refused by the file system, and not needed: {_LOCKING}=FALSE", "ok"
        if number in _LOCK_ERRORS:
            return f"refused by the file system: export {_LOCKING}=FALSE", "note"
        return f"failed: {getattr(error, 'strerror', None) or error}", "warning"
    return "works", "ok"


def _exclusive(folder: Path) -> None:
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(descriptor)
    try:
        os.close(os.open(folder / "lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    raise AssertionError("two processes could take the same lock")


def _rename(folder: Path) -> None:
    (folder / "old").write_text("old")
    (folder / "new").write_text("new")
    (folder / "new").replace(folder / "old")
    assert (folder / "old").read_text() == "new", "the old file is still there"


def _fsync(folder: Path) -> None:
    with (folder / "kept").open("w") as stream:
        stream.write("kept")
        stream.flush()
        os.fsync(stream.fileno())
    to_disk(folder)


def _flock(folder: Path) -> None:
    import fcntl

    with (folder / "flocked").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TRIALS = {"exclusive creation (one writer a folder)": _exclusive, "atomic rename (nothing half-written)": _rename,
           "fsync (checkpoints survive a crash)": _fsync, "flock (what HDF5 uses)": _flock}  # fmt: skip


def scheduler() -> list[Finding]:
    """Which batch system there is and whether this is a job of it."""
    for system, commands in (("SLURM", SLURM_COMMANDS), ("OAR", OAR_COMMANDS)):
        there = [name for name in commands if shutil.which(name)]
        if there:
            return [Finding("scheduler", system, f"{', '.join(there)} found"), _job()]
    return [Finding("scheduler", "batch system", "none found: commands run here and now", "note"), _job()]


def _job() -> Finding:
    for system, variable in (("SLURM", "SLURM_JOB_ID"), ("OAR", "OAR_JOB_ID")):
        number = os.environ.get(variable)
        if number:
            node = os.environ.get("SLURMD_NODENAME", platform.node())
            return Finding("scheduler", "inside a job", f"{system} job {number} on {node}")
    return Finding("scheduler", "inside a job", "no")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
