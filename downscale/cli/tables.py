"""Facts on the screen: two columns that stay readable in a narrow terminal and in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

Row = tuple[str, str]
_PIPE_WIDTH = 140
_NAME_WIDTH = 44
_LAST_WIDTH = 24


def print_facts(title: str, rows: Sequence[Row], *, level: int = 0) -> None:
    """A heading (if any) and its rows, names aligned, long values wrapped under themselves; nothing when there are no rows."""
    if not rows:
        return
    console = output()
    pad = "  " * level
    if title:
        console.print(Text(f"{pad}{title}", style="bold"))
    width = min(max(len(name) for name, _ in rows), _NAME_WIDTH)
    for name, value in rows:
        before = f"{pad}  {name:{width}}  "
        room = max(console.width - len(before), 30)
        lines = [part for line in value.splitlines() or [""] for part in _wrapped(line, room) or [""]]
        for number, line in enumerate(lines):
            console.print(Text(f"{before if number == 0 else ' ' * len(before)}{line}".rstrip()))


def print_columns(headings: Sequence[str], rows: Sequence[Sequence[str]], *, level: int = 0) -> None:
    """Columns as wide as their longest cell, the last one wrapped; one below the other where the terminal is too narrow for that."""
    if not rows:
        return
    console = output()
    pad = "  " * level
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings) - 1)]
    indent = len(pad) + sum(widths) + 2 * len(widths)
    if indent + _LAST_WIDTH > console.width:
        for row in rows:
            print_facts(f"{headings[0]} {printable(row[0])}", list(zip(headings[1:], row[1:], strict=True)), level=level)
        return
    for number, row in enumerate((headings, *rows)):
        start = pad + "".join(f"{printable(cell):{width}}  " for cell, width in zip(row, widths, strict=False))
        parts = _wrapped(row[-1], max(console.width - indent, 30)) or [""]
        for position, part in enumerate(parts):
            text = f"{start if position == 0 else ' ' * indent}{part}".rstrip()
            console.print(Text(text, style="dim" if number == 0 else ""))


def print_list(title: str, lines: Sequence[str], *, level: int = 0) -> None:
    """A heading and its lines; nothing when there are none."""
    if not lines:
        return
    console = output()
    pad = "  " * level
    console.print(Text(f"{pad}{title}", style="bold"))
    for line in lines:
        for number, part in enumerate(_wrapped(line, max(console.width - len(pad) - 4, 30)) or [""]):
            console.print(Text(f"{pad}{'  ' if number == 0 else '    '}{part}"))


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that end between words; names with dashes stay whole, to be copied."""
    return textwrap.wrap(printable(text), width, break_long_words=False, break_on_hyphens=False)


def printable(text: str) -> str:
    """Without control characters: attributes of a file may hold anything, escape sequences too."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def output() -> Console:
    """The console of stdout: its own width on a terminal, a fixed one in a pipe, never broken in the middle of a path."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
