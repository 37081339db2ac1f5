"""Facets: the facts that name an output and the run that drove it, and whether they are all there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence

from downscale.errors import ConfigError
from downscale.grid.domains import current_name
from downscale.profiles.rules import Archive

_TOKEN = re.compile(r"[A-Za-z0-9-]+")
_SHARED = ("mip_era",)
_OF_DRIVERS = ("experiment_id", "variant_label", "sub_experiment_id", "start_date")
"""Facets that an output has of its driving run only, so that they need no ``driving_``."""
_OF_MODELS = ("source_id", "institution_id", "institution", "domain_id", "domain", "version_realization", "grid_label")
"""Facets of an RCM itself, which say nothing of the run that drives it."""
_NO_ATTRIBUTES = ("version", "earth_radius")


def is_regional(of_source: Mapping[str, str]) -> bool:
    """Whether the facets that files state are those of an RCM: it has a domain or a driver."""
    return bool(of_source.get("driving_source_id") or of_source.get("domain_id"))


def merge_facets(of_source: Mapping[str, str], own: Mapping[str, str], *, regional: bool = False) -> dict[str, str]:
    """Facets of an output: those of the run that drives it, under names that begin with ``driving_``, and its own.

    Args:
        of_source: sources.NAME.facets: source_id, experiment_id, variant_label, institution_id ..., with or without ``driving_``.
        own: apply.facets: domain_id, institution_id, source_id ...; they win where both name the same.
        regional: the source is an RCM: what names the RCM itself names no driver.
    """
    stated = {key: value for key, value in of_source.items() if key.startswith("driving_") or key in _SHARED}
    left = {key: value for key, value in of_source.items() if key not in stated and not (regional and key in _OF_MODELS)}
    told = {f"driving_{key}" if key in _OF_DRIVERS else key: value for key, value in own.items()}
    return {**{f"driving_{key}": value for key, value in left.items()}, **stated, **told}


def with_facets(attributes: Mapping[str, str], facets: Mapping[str, str]) -> dict[str, str]:
    """Global attributes with the facets among them; a comment that was given comes after that of the tool."""
    told = {key: value for key, value in facets.items() if value and key not in _NO_ATTRIBUTES}
    comment = "; ".join(text for text in (attributes.get("comment", ""), told.get("comment", "")) if text)
    return {**attributes, **told, **({"comment": comment} if comment else {})}


def experiments(facets: Mapping[str, str]) -> list[str]:
    """The driving experiments in order of time: one, or historical and a scenario parted by a comma."""
    return [part.strip() for part in facets.get("driving_experiment_id", "").split(",") if part.strip()]


def check_names(archive: Archive, facets: Mapping[str, str], taken: Collection[str] = ()) -> None:
    """Refuse facets that no layout knows, and the name of a model for its emulator.

    Args:
        archive: whose facets are known.
        facets: as merge_facets gives them.
        taken: names of the models that the emulator has learned from.

    Raises:
        ConfigError: with a line for each.
    """
    lines = [line for name, value in facets.items() if value and (line := _stranger(archive, name) or _borrowed(name, value, taken))]
    if lines:
        raise ConfigError(
            "files cannot be named so", where="apply.facets (--facet)", hint="mend or leave out what is listed", findings=lines
        )


def check_facets(archive: Archive, facets: Mapping[str, str], variables: Sequence[str], taken: Collection[str] = ()) -> None:
    """Refuse, before anything is computed, an output that the archive's names and attributes cannot be given to.

    Args:
        archive: the rules.
        facets: as merge_facets gives them.
        variables: names of what is to be written.
        taken: names of the models that the emulator has learned from.

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
    lines += [line for name, value in facets.items() if value and (line := _problem(archive, name, value, taken))]
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


def _stranger(archive: Archive, name: str) -> str:
    known = {*archive.given, *archive.driving, *archive.assumed, *archive.optional}
    if name in known or name.startswith("driving_"):
        return ""
    return f"apply.facets.{name} is not known; known: {', '.join(sorted(known))}"


def _borrowed(name: str, value: str, taken: Collection[str]) -> str:
    if name != "source_id" or value.lower() not in {one.lower() for one in taken}:
        return ""
    return f"source_id: '{value}' is the name of a model that the emulator has learned from: an emulator needs its own"


def _problem(archive: Archive, name: str, value: str, taken: Collection[str]) -> str:
    """What is wrong with a facet; empty when nothing is. Further facets of the source are kept as they are."""
    if line := _stranger(archive, name) or _borrowed(name, value, taken):
        return line
    parts = experiments({name: value}) if name == "driving_experiment_id" else [value]
    if name in archive.tokens and not all(_TOKEN.fullmatch(part) for part in parts):
        return f"{name}: '{value}' becomes part of file names: letters, digits and dashes only"
    if name in archive.forms and not re.fullmatch(archive.forms[name], value):
        return f"{name}: '{value}' is not of the form {archive.forms[name]}"
    if value in archive.dynamical.get(name, ()):
        return f"{name}: '{value}' is for regional climate models, and an emulator is none: leave it out for '{archive.assumed[name]}'"
    if name == "driving_experiment_id":
        return _problem_of_experiments(archive, parts, value)
    if name == "domain_id" and value not in archive.domains:
        return f"domain_id: '{value}' is no domain of the archive; {_near(archive, value)}"
    return ""


def _near(archive: Archive, value: str) -> str:
    """Which domain may be meant: the one that CMIP5 called so, or others."""
    today = current_name(value)
    if today in archive.domains:
        return f"did you mean {today}?"
    close = [name for name in archive.domains if name.partition("-")[0] == today.partition("-")[0]]
    close = close or difflib.get_close_matches(today, archive.domains, n=3)
    return f"it has {', '.join(close or archive.domains)}"


def _problem_of_experiments(archive: Archive, parts: Sequence[str], value: str) -> str:
    unknown = [part for part in parts if part not in archive.experiments]
    if unknown:
        return f"driving_experiment_id: '{unknown[0]}' is none of {', '.join(archive.experiments)}"
    if len(parts) > 1 and (len(parts) > 2 or parts[0] != "historical" or parts[1] in ("historical", *archive.free_experiments)):
        return f"driving_experiment_id: '{value}' is not historical and one scenario"
    return ""
