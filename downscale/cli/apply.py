"""Which of the two forms of apply was meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from downscale.errors import ConfigError

_WITH_RUN = "downscale apply RUN --input FILE... -o DIR"


def apply_either(
    what: Path, with_config: Mapping[str, Sequence[str]], with_run: Mapping[str, Any], *, workers: int, dry_run: bool, **manner: Any
) -> dict[str, Any]:
    """A run folder with --input and -o, or a config with --run and --source; ConfigError for a mixture.

    Further processes are started before anything else is loaded: they load the same meanwhile.

    Args:
        what: a run folder, or a config.
        with_config: runs, sources, overrides.
        with_run: inputs, output, forcings, assume_units, fill_values, members, aggregate, per_run, profile, facets.
        workers, dry_run: see Manner.
        **manner: device, and see Manner.
    """
    from downscale.hpc.crew import Crew

    with Crew(0 if dry_run else workers - 1, "downscale.apply.workers") as crew:
        return _apply(what, with_config, with_run, workers=workers, dry_run=dry_run, crew=crew, **manner)


def _apply(what: Path, with_config: Mapping[str, Sequence[str]], with_run: Mapping[str, Any], **manner: Any) -> dict[str, Any]:
    from downscale.apply.stage import apply_files, apply_run
    from downscale.config.load import load_config

    if what.is_dir():
        if with_config["runs"] or with_config["sources"]:
            raise ConfigError("--run and --source go with a config, not with a run folder", where=str(what), hint=_WITH_RUN)
        if not with_run["inputs"] or with_run["output"] is None:
            raise ConfigError("a run folder needs --input FILE... and -o DIR", where=str(what), hint=_WITH_RUN)
        return apply_files(what, with_run["inputs"], with_run["output"], options=_options(with_run, with_config["overrides"]), **manner)
    given = [name for name, value in with_run.items() if value and value not in ("none", "cf")]
    if given:
        raise ConfigError(
            f"{', '.join(_FLAGS[name] for name in given)}: this goes with a run folder, not with a config",
            where=str(what),
            hint="downscale apply CONFIG [--run RUN] [--source NAME]; how its files are read is said in the config",
        )
    cfg = load_config(what, with_config["overrides"])
    return apply_run(cfg, runs=with_config["runs"], sources=with_config["sources"], **manner)


_FLAGS = {
    "inputs": "--input",
    "output": "-o",
    "forcings": "--forcings",
    "assume_units": "--assume-units",
    "fill_values": "--fill-value",
    "members": "--member",
    "aggregate": "--aggregate",
    "per_run": "--per-run",
    "profile": "--profile",
    "facets": "--facet",
}


_NEEDS_PAIRS = ("align", "align_to", "align_window", "days")
"""Keys of the section apply that only pairs can answer."""


def _options(given: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    from downscale.apply.feed import Reading
    from downscale.apply.files import FileOptions
    from downscale.config.apply import ApplyAlone
    from downscale.config.load import load_section

    profile = [f"apply.profile={given['profile']}"] if given["profile"] != "cf" else []
    config = load_section(ApplyAlone, [*overrides, *profile]).apply
    if asked := [name for name in _NEEDS_PAIRS if name in config.model_fields_set]:
        raise ConfigError(f"apply.{asked[0]} needs the pairs of an experiment", where="--set", hint="downscale apply CONFIG --run RUN")
    facets = _pairs(given["facets"], "--facet", "NAME=VALUE", "institution_id=CNRM-MF")
    reading = Reading(
        _pairs(given["assume_units"], "--assume-units", "VAR=UNITS", "pr=mm/day"), tuple(given["fill_values"]), given["aggregate"]
    )
    config = config.model_copy(update={"facets": {**config.facets, **facets}})
    return FileOptions(given["forcings"], reading, tuple(given["members"]), given["per_run"], config)


def _pairs(texts: Sequence[str], flag: str, form: str, example: str) -> dict[str, str]:
    for text in texts:
        if not text.partition("=")[2]:
            raise ConfigError(f"{flag} '{text}' is not of the form {form}", hint=f"e.g. {flag} {example}")
    return dict((name, units) for name, _, units in (text.partition("=") for text in texts))
