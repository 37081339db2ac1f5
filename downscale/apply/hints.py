"""Errors of reading and naming in the words of ``apply RUN --input``: there is no config, so remedies stand on the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from downscale.errors import ConfigError, InputDataError

_KEY = r"sources\.NAME\."
_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (rf"remove {_KEY}member", "leave --member out"),
    (rf"{_KEY}member: ", "--member "),
    (
        rf"(?: in the config)?: {_KEY}assume_units: {{(\w+): ([^}}]*)}}",
        lambda found: f": --assume-units {shlex.quote(f'{found[1]}={found[2]}') if found[2] != '...' else f'{found[1]}=UNITS'}",
    ),
    (rf"{_KEY}fill_values", "--fill-value NUMBER"),
    (rf"{_KEY}aggregate: ", "--aggregate "),
    (r"aggregate: cell_methods takes", "--aggregate cell_methods takes"),
    (
        rf"choose one in the config: {_KEY}variables: {{(\w+): ([^}}]*)}}",
        r"keep one of them in the files, under the name \1, e.g. cdo -chname,\2,\1 -selname,\2 IN OUT",
    ),
    (
        rf"name the variable in the config: {_KEY}variables: {{(\w+): NAME\S*}}",
        r"rename the variable in them: ncrename -v NAME_IN_FILE,\1 FILE",
    ),
    (rf"name the right one in {_KEY}variables", "give files of the right one"),
    (rf", or declare it with {_KEY}winds: grid", ""),
    (rf"take one run with {_KEY}select: .*", "give the files of one run, or --per-run for a prediction of each"),
    (r"make one source of each run; files of one run share a calendar", "apply to one run at a time, or --per-run"),
    (r"files of one source share one grid; make a source of each, or remap", "remap them to one grid first"),
    (
        r"convert the files to one unit, or make a source of each",
        "convert the files to one unit, or --assume-units VAR=UNITS for all",
    ),
    (r"remove one of them from the source's files", "leave one of them out"),
    (r"in one source", "in the input"),
    (rf"apply\.facets, {_KEY}facets|apply\.facets \(--facet\)", "--facet"),
    (rf"{_KEY}facets\.(\w+)", r"--facet driving_\1"),
    (r"apply\.facets\.(\w+)", r"--facet \1"),
    (r"driving_experiment_id \(experiment_id of the source's facets\)", "--facet driving_experiment_id"),
    (r"give them in the config \(facets of the GCM with its source\)", "give them with --facet NAME=VALUE"),
    (r"make one at a time \(.*", "make one at a time, each with its own -o, or give them other facets"),
    (r"apply\.profile: ", "--profile "),
    (r"\bsource input\b", "the files of --input"),
)


@contextmanager
def options_told() -> Iterator[None]:
    """Rejections of input data and of names that are raised inside name options where they named keys of a config."""
    try:
        yield
    except (InputDataError, ConfigError) as error:
        error.message, error.where, error.hint = (_told(text) for text in (error.message, error.where, error.hint))
        error.findings = [_told(line) for line in error.findings]
        raise


def _told(text: str) -> str:
    for pattern, words in _RULES:
        text = re.sub(pattern, words, text)
    return text
