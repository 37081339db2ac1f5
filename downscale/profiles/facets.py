"""Facets: the facts that name an output and the run that drove it, and whether they are all there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from downscale.errors import ConfigError
from downscale.profiles.rules import Archive

_TOKEN = re.compile(r"[A-Za-z0-9-]+")
_SHARED = ("mip_era",)


def merge_facets(of_source: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Facets of an output: those of the source that drives it, under names that begin with ``driving_``, and its own.

    Args:
        of_source: sources.NAME.facets: source_id, experiment_id, variant_label, institution_id ..., with or without ``driving_``; of an
            RCM the driving run is that of the RCM.
        own: apply.facets: domain_id, institution_id, source_id ...; they win where both name the same.
    """
    stated = {key: value for key, value in of_source.items() if key.startswith("driving_") or key in _SHARED}
    driving = {f"driving_{key}": value for key, value in of_source.items() if key not in stated}
    return {**driving, **stated, **own}


def experiments(facets: Mapping[str, str]) -> list[str]:
    """The driving experiments in order of time: one, or historical and a scenario parted by a comma."""
    return [part.strip() for part in facets.get("driving_experiment_id", "").split(",") if part.strip()]


def check_facets(archive: Archive, facets: Mapping[str, str], variables: Sequence[str]) -> None:
    """Refuse, before anything is computed, an output that the archive's names and attributes cannot be given to.

    Raises:
        ConfigError: with a line for each facet that is missing or cannot be used, and each variable that the archive does not take.
    """
    lines = [f"apply.facets.{name} is missing: {what}" for name, what in archive.given.items() if not facets.get(name)]
    lines += [
        f"sources.NAME.facets.{name.removeprefix('driving_')} is missing: {what}"
        for name, what in archive.driving.items()
        if not facets.get(name)
    ]
    missing = len(lines)
    lines += [line for name, value in facets.items() if value and (line := _problem(archive, name, value))]
    lines += [
        f"the archive takes no daily '{name}' from here, only {', '.join(archive.variables)}"
        for name in variables
        if name not in archive.variables
    ]
    if lines:
        raise ConfigError(
            f"{archive.fixed['project_id']}: {missing} facets are missing" if missing else "files for the archive cannot be named so",
            where="apply.facets, sources.NAME.facets",
            hint="give them in the config (facets of the GCM with its source), or choose apply.profile: cf",
            findings=lines,
        )


def _problem(archive: Archive, name: str, value: str) -> str:
    """What is wrong with a facet; empty when nothing is. Further facets of the source are kept as they are."""
    known = {*archive.given, *archive.driving, *archive.assumed, *archive.optional}
    if name not in known and not name.startswith("driving_"):
        return f"apply.facets.{name} is not known; known: {', '.join(sorted(known))}"
    parts = experiments({name: value}) if name == "driving_experiment_id" else [value]
    if name in archive.tokens and not all(_TOKEN.fullmatch(part) for part in parts):
        return f"{name}: '{value}' becomes part of file names: letters, digits and dashes only"
    if name in archive.forms and not re.fullmatch(archive.forms[name], value):
        return f"{name}: '{value}' is not of the form {archive.forms[name]}"
    if name == "driving_experiment_id":
        return _problem_of_experiments(archive, parts, value)
    if name == "domain_id" and value.partition("-")[0] not in archive.regions:
        return f"domain_id: '{value}' begins with none of {', '.join(archive.regions)}"
    return ""


def _problem_of_experiments(archive: Archive, parts: Sequence[str], value: str) -> str:
    unknown = [part for part in parts if part not in archive.experiments]
    if unknown:
        return f"driving_experiment_id: '{unknown[0]}' is none of {', '.join(archive.experiments)}"
    if len(parts) > 1 and (len(parts) > 2 or parts[0] != "historical" or parts[1] in ("historical", *archive.free_experiments)):
        return f"driving_experiment_id: '{value}' is not historical and one scenario"
    return ""
