"""Every row of the fault table has its test, and the page that tells of them is current."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from faults import FAULTS

TESTS = Path(__file__).parent


@cache
def marked() -> set[str]:
    rows = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "fault":
                    rows.add(ast.literal_eval(mark.args[0]))
    return rows


@pytest.mark.parametrize("row", FAULTS)
def test_every_row_has_a_test(row):
    assert row in marked()
