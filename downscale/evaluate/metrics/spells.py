"""Longest spells: runs of consecutive days on which something holds, as summaries of segments that join exactly.

A segment keeps its longest run and the runs that touch its ends, so that blocks of days can be summarised apart and joined later: the
longest run of two neighbours is the longest of theirs and of the one across the border. A missing day ends a spell.
CDD and CWD: Zhang et al. (2011), doi 10.1002/wcc.147; a spell is counted inside its year (or the season of a year), as in ETCCDI.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PARTS = ("first", "last", "longest", "length")


def spell_sums(holds: np.ndarray, segments: Sequence[slice]) -> dict[str, np.ndarray]:
    """The spells of each segment.

    Args:
        holds: (time, ...) True on days that count; a missing day does not.
        segments: runs of consecutive days.

    Returns:
        first, last, longest: (segment, ...) float32 days of the run that begins the segment, that ends it, and of the longest one;
        length: (segment,) days of the segment.
    """
    shape = (len(segments), *holds.shape[1:])
    found = {name: np.zeros(shape, np.float32) for name in ("first", "last", "longest")}
    for number, segment in enumerate(segments):
        run, longest = np.zeros(shape[1:], np.int32), np.zeros(shape[1:], np.int32)
        for day in holds[segment]:
            run += 1
            run *= day
            np.maximum(longest, run, out=longest)
        some = holds[segment]
        found["first"][number] = np.where(longest == len(some), len(some), np.argmin(some, axis=0)) if len(some) else 0
        found["last"][number], found["longest"][number] = run, longest
    return {**found, "length": np.array([segment.stop - segment.start for segment in segments], dtype=np.float64)}


def longest_of_years(spells: Mapping[str, np.ndarray], members: np.ndarray, linked: np.ndarray) -> np.ndarray:
    """The longest spell of each year.

    Args:
        spells: of segments, see spell_sums.
        members: (year, segment) True where a segment belongs to a year.
        linked: (segment,) True where a segment begins the day after the one before it ends.

    Returns:
        (year, ...) float64 days; 0 in a year without one.
    """
    result = np.zeros((len(members), *spells["longest"].shape[1:]))
    for year, inside in enumerate(members):
        chosen = np.flatnonzero(inside)
        before, running = -2, np.zeros(result.shape[1:])
        for number in chosen:
            joined = running if number == before + 1 and linked[number] else np.zeros_like(running)
            longest = np.maximum(spells["longest"][number], joined + spells["first"][number])
            np.maximum(result[year], longest, out=result[year])
            whole = spells["first"][number] >= spells["length"][number]
            running = np.where(whole, joined + spells["length"][number], spells["last"][number])
            before = int(number)
    return result


def longest_spell(holds: np.ndarray) -> np.ndarray:
    """Longest run of True along the first axis (...), days."""
    everything = [slice(0, len(holds))]
    return longest_of_years(spell_sums(holds, everything), np.ones((1, 1), bool), np.zeros(1, bool))[0]
