"""Site profiles: what a cluster offers and how one asks for it, as data in a YAML file."""

from __future__ import annotations

import io
from pathlib import Path

from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from downscale.config.hpc import Duration, Line, Plain, Size, StageName, seconds_of
from downscale.config.inputs import Strict
from downscale.errors import ConfigError, EnvironmentMissingError

FOLDER = Path(__file__).parent / "sites"
_MAX_BYTES = 100_000


class Qos(Strict):
    """A quality of service and the longest job in it."""

    name: Plain
    time: Duration


class Nodes(Strict):
    """One kind of nodes. What a node has limits what is asked for; the rest is how one asks.

    Attributes:
        time: of the longest job.
        cpus, memory: of one node.
        account: how the account is written; ``{account}`` stands for that of the config.
        qos: the first one that is long enough is asked for.
        options: further ones of sbatch, for all jobs on such nodes.
        environment: shell lines before the command.
        container: options of the container's command.
    """

    partition: Plain | None = None
    account: Plain = "{account}"
    time: Duration | None = None
    cpus: int | None = Field(None, ge=1)
    memory: Size | None = None
    qos: list[Qos] = Field([])
    options: list[Plain] = Field([])
    environment: list[Line] = Field([])
    container: list[Plain] = Field([])

    @property
    def longest(self) -> int | None:
        """Seconds of the longest job; None: any."""
        return None if self.time is None else seconds_of(self.time)


class GpuNodes(Nodes):
    """Nodes with GPUs.

    Attributes:
        stages: those that take a GPU without being told.
        ask: option of sbatch; ``{gpus}`` stands for the number of a node.
        gpus: of one node.
        cpus_per_gpu: cores that come with each.
    """

    stages: list[StageName] = Field([])
    ask: Plain = "--gres=gpu:{gpus}"
    gpus: int | None = Field(None, ge=1)
    cpus_per_gpu: int | None = Field(None, ge=1)


class Site(Strict):
    """A cluster.

    Attributes:
        about: in words.
        requeue: whether a job may send itself back to the queue; otherwise it submits itself again.
        ask_memory: whether jobs say how much memory they need.
        array_limit: tasks of an array that run at the same time.
        container: the command that runs something in a container.
        dask_interface: network interface of the Dask scheduler and workers.
    """

    about: str
    requeue: bool = False
    ask_memory: bool = True
    needs_account: bool = False
    array_limit: int | None = Field(None, ge=1)
    container: list[Plain] = Field(["apptainer", "exec"])
    dask_interface: Plain | None = None
    cpu: Nodes
    gpu: GpuNodes | None = None


def names() -> list[str]:
    """Profiles that come with downscale."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_site(site: str) -> Site:
    """A profile by its name, or from a YAML file.

    Raises:
        EnvironmentMissingError: there is no such profile.
        ConfigError: the file is not a profile; a finding for each thing that is wrong.
    """
    is_file = "/" in site or site.endswith((".yaml", ".yml"))
    path = Path(site) if is_file else FOLDER / f"{site}.yaml"
    if not path.is_file():
        raise EnvironmentMissingError(
            f"there is no site profile '{site}'",
            where="--site or hpc.site",
            hint=f"use {', '.join(names())}, or give the path of a YAML file (docs/howto/site-profiles.md)",
        )
    return _read(path)


def _read(path: Path) -> Site:
    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_BYTES:
            raise ValueError(f"it has {len(raw):,} bytes")
        data = YAML(typ="safe", pure=True).load(io.StringIO(raw.decode("utf-8")))
        return Site.model_validate(data)
    except ValidationError as error:
        findings = [f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()]
        raise ConfigError(
            "the site profile cannot be used", where=str(path), hint="mend these keys; see docs/howto/site-profiles.md", findings=findings
        ) from None
    except (OSError, ValueError, YAMLError) as error:
        raise ConfigError(
            f"the site profile cannot be read: {str(error).splitlines()[0]}", where=str(path), hint="give a YAML file of a site"
        ) from None
