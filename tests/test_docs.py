"""The generated pages are current, and the pages link to what exists."""

from __future__ import annotations

import importlib.util
import re

import pytest
from conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["config", "faults"])
def test_generated_pages_are_current(generate, page):
    assert (DOCS / "reference" / f"{page}.md").read_text(encoding="utf-8") == getattr(generate, f"{page}_page")(), "run make docs"


@pytest.mark.parametrize("path", sorted([*DOCS.rglob("*.md"), REPOSITORY / "README.md"]), ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), link


def test_every_default_of_the_config_is_a_value(generate):
    page = generate.config_page()
    assert "PydanticUndefined" not in page and "outside: {yellow: 0.05, red: 0.2}" in page
