"""Errors of reading in the words of this use: there is no config, so what can be done stands on the command line or in the files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from downscale.errors import InputDataError

LAND = "land"
_Rule = tuple[str, str | Callable[[re.Match[str]], str]]
_KEY = r"sources\.NAME\."
_RULES: tuple[_Rule, ...] = (
    (
        rf"say what they are in the config: {_KEY}assume_units: {{(\w+): ([^}}]*)}}",
        lambda found: f"say what they are: --assume-units {shlex.quote(f'{found[1]}={found[2]}')}",
    ),
    (rf"{_KEY}assume_units: {{(\w+): \.\.\.}}", r"--assume-units SIDE:\1=UNITS"),
    (rf"{_KEY}fill_values", "--fill-value SIDE:NUMBER"),
    (rf"remove {_KEY}member", "leave --member out"),
    (rf"say which member: {_KEY}member: ", "say which with --member: "),
    (rf"{_KEY}member: ", "--member "),
    (
        rf"choose one in the config: {_KEY}variables: {{(\w+): (\w+)}}",
        r"keep one of them in the files, under the name \1, e.g. cdo -chname,\2,\1 -selname,\2 IN OUT",
    ),
    (
        rf"add the files, or name the variable in the config: {_KEY}variables: {{(\w+): NAME_IN_FILE}}",
        r"add the files, or rename the variable: ncrename -v NAME_IN_FILE,\1 FILE",
    ),
    (
        rf"add its file to the source's files, or name it: {_KEY}variables: {{(\w+): NAME_IN_FILE}}",
        r"give a file that holds it, or rename the variable: ncrename -v NAME_IN_FILE,\1 FILE",
    ),
    (rf"name the right one in {_KEY}variables, or compute it first", "rename the right one, or compute it first"),
    (rf", or all steps of each day and {_KEY}aggregate: mean", ""),
    (
        rf"for means of each day set {_KEY}aggregate: mean; with sub-daily tasmax or tasmin, cell_methods",
        "make one value of each day first, e.g. cdo -daymean IN OUT (tasmax: -daymax, tasmin: -daymin)",
    ),
    (r", or raise missing\.day_shift_hours; a day is then where its middle lies", ""),
    (rf"take one run with {_KEY}select: .*", "give the files of one run only"),
    (r"the files say (.*?) \(assume_units\)", r"the files say \1 (--assume-units)"),
    (r"the config's fill_values", "those of --fill-value"),
    (r"convert the files to one unit, or make a source of each", "convert the files to one unit first"),
    (r"files of one source share one grid; make a source of each, or remap", "remap them to one grid first"),
    (r"make one source of each run; files of one run share a calendar", "judge the files of one run at a time"),
    (r"remove one of them from the source's files", "leave one of them out"),
    (r"calendars in one source", "calendars in its files"),
    (r"\bsource (prediction|reference|land)\b", r"\1"),
    (r"^1 predicted field\(s\) never change in time or hold no value on the test days", "a predicted field never changes or has no value"),
    (
        r"^(\d+) predicted field\(s\) never change in time or hold no value on the test days",
        r"\1 predicted fields never change or have no value",
    ),
    (r"^prediction on files/prediction: ", ""),
    (r"the run is broken: look at its .*", "look at the file: a constant, or a single day? --profile mlbench judges such fields, too"),
    (r"^evaluate\.december: next", "--december next"),
    (
        r"judge whole winters \(split\.year_starts: 12 keeps them together\), or use december: calendar",
        "give whole winters, or leave --december out",
    ),
)
_OF_LAND: tuple[_Rule, ...] = (
    (r"say what they are in the config: .*|wrong units: .*", "sftlf is in %, or a fraction with the units 1: mend the file's units"),
)
"""Of --land, whose file has no options."""


def in_our_words(text: str, side: str = "") -> str:
    """A line of an error or of a note with the options of this use in place of keys of a config.

    Args:
        text: the line.
        side: whose file it is about: "prediction", "reference" or LAND; empty: not known.
    """
    for pattern, words in (*(_OF_LAND if side == LAND else ()), *_RULES):
        text = re.sub(pattern, words, text)
    return text.replace("SIDE:", f"{side}:" if side else "")


@contextmanager
def telling(side: str = "") -> Iterator[None]:
    """Rejections from inside leave in the words of this use."""
    try:
        yield
    except InputDataError as error:
        error.message, error.where, error.hint = (in_our_words(text, side) for text in (error.message, error.where, error.hint))
        error.findings = [in_our_words(line, side) for line in error.findings]
        raise
