"""A submission on its way: what is entered, how far each domain is, and what its registration asks for."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from downscale import __version__
from downscale.config.load import dump_yaml
from downscale.config.schema import ExperimentConfig
from downscale.errors import OutputExistsError
from downscale.mlbench.pack import Packed
from downscale.mlbench.plan import CONFIG
from downscale.profiles.mlbench import MEMBERS, Domain
from downscale.profiles.mlbench_output import Template

log = logging.getLogger(__name__)
_OROGRAPHY = "-orog"
_SECONDS, _STOPPED = "seconds.json", "of attempts that were stopped"


@dataclass(frozen=True)
class Choices:
    """What is entered.

    Attributes:
        model: one of plan.MODELS.
        orography: whether the network gets the fine orography.
        domains, experiments: names; all when empty.
        overrides: ``a.b=c`` strings for the config of every domain.
        templates: the benchmark's folder of templates; when None, ``templates`` beside the domains, else the targets' own coordinates.
        device: "auto", "cpu" or "cuda".
    """

    model: str = "resunet"
    orography: bool = False
    domains: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    templates: Path | None = None
    device: str = "auto"


@dataclass
class Entry:
    """One domain on its way into the submission."""

    domain: Domain
    folder: Path
    cfg: ExperimentConfig
    template: Template
    seconds: dict[str, float] = field(default_factory=dict)
    packed: list[Packed] = field(default_factory=list)

    @contextmanager
    def with_config(self) -> Iterator[None]:
        """Inside, the config lies in the folder; when results of another config are not replaced, that config comes back.

        Raises:
            OutputExistsError: results of another config, with what this command can do about it.
        """
        path = self.folder / CONFIG
        before = path.read_text() if path.is_file() else None
        write_text(path, dump_yaml(self.cfg))
        try:
            yield
        except OutputExistsError as error:
            if before is not None:
                write_text(path, before)
            if "--name" not in error.hint:
                raise
            hint = "give another --out, or --overwrite to replace them; written -> wanted:"
            raise OutputExistsError("results of other choices are here", where=error.where, hint=hint, findings=error.findings) from error

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note a step's seconds, with those of attempts that were stopped; one that was done before keeps those of the time when it was."""
        log.info("== %s: %s", self.domain.name, step)
        path, started, done = self.folder / _SECONDS, time.monotonic(), False
        try:
            yield
            done = True
        finally:
            known = json.loads(path.read_text()) if path.is_file() else {}
            stopped = known.setdefault(_STOPPED, {})
            seconds = round(time.monotonic() - started + stopped.pop(step, 0.0), 1)
            if done:
                known[step] = self.seconds[step] = max(seconds, known.get(step, 0.0))
            else:
                stopped[step] = seconds
            write_json(path, known)


def registration(entries: Sequence[Entry], choices: Choices, path: Path) -> dict[str, Any]:
    """What the registration of an entry asks for."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    seconds: dict[str, float] = {}
    for entry in entries:
        for step, value in entry.seconds.items():
            seconds[step.split()[0]] = round(seconds.get(step.split()[0], 0.0) + value, 1)
    return {
        "model": choices.model,
        "orography": choices.orography,
        "set": list(choices.overrides),
        "downscale_version": __version__,
        "machine": f"{platform.machine()}, {platform.system()}, device {choices.device}",
        "seconds": seconds,
        "zip": path.name,
        "sha256": digest.hexdigest(),
        "domains": {
            entry.domain.name: {
                "seconds": entry.seconds,
                "files": {
                    str(packed.path.relative_to(path.with_suffix(""))): {"days": packed.days, "days_without_prediction": packed.missing}
                    for packed in entry.packed
                },
            }
            for entry in entries
        },
    }


def days_without(entries: Sequence[Entry]) -> str:
    """How many days have no prediction, in words."""
    total = sum(len(packed.missing) for entry in entries for packed in entry.packed)
    files = sum(bool(packed.missing) for entry in entries for packed in entry.packed)
    return f"{total} in {files} files, listed in the JSON file" if total else "none"


def advice(entries: Sequence[Entry], submission: Path, choices: Choices) -> dict[str, str]:
    """What the benchmark would ask for and this entry has not."""
    said = []
    if choices.orography and not submission.name.endswith(_OROGRAPHY):
        said.append(f"an entry with orography is named NAME{_OROGRAPHY}")
    members = {packed.members for entry in entries for packed in entry.packed} - {0, MEMBERS}
    if members:
        said.append(f"a generative entry has {MEMBERS} members, this one {max(members)}")
    return {"note": "; ".join(said)} if said else {}


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write facts; the file is the old one or the whole new one."""
    write_text(path, json.dumps(facts, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text; the file is the old one or the whole new one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
