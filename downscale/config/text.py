"""The text of a config to plain data with line numbers: YAML 1.2, within bounds, before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from downscale.errors import ConfigError

_MAX_BYTES = 1_000_000
_MAX_ALIASES = 50
_MAX_NODES = 100_000
_MAX_DEPTH = 50
Location = tuple[str | int, ...]


def read(path: Path) -> str:
    """The text of a file; ConfigError when it cannot be read, is too large or no UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the config: {error.strerror}", where=str(path), hint="give the path of a YAML file") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(
            f"the config has {len(raw):,} bytes", where=str(path), hint=f"a config is at most {_MAX_BYTES:,} bytes; is this another file?"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("the config is not UTF-8 text", where=str(path), hint="give a YAML file") from None


def parse(text: str, name: str) -> tuple[dict[str, Any], dict[Location, int]]:
    """A mapping, and the line of each of its values; ConfigError for anything that is no YAML mapping within bounds."""
    try:
        _check_size(text, name)
        root = YAML(typ="safe", pure=True).compose(text)
        if _size(root, {}) > _MAX_NODES:
            raise ConfigError("the config's YAML aliases grow without bounds", where=name, hint="write out what the aliases stand for")
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        problem = (error.problem or error.context or "not YAML").splitlines()[0]
        raise ConfigError(
            f"the config is not valid YAML: {problem}", where=where, hint="mend the line; indent with spaces, give each key once"
        ) from None
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"the config is not valid YAML: {str(error).splitlines()[0]}", where=name, hint="mend the file") from None
    if not isinstance(data, dict):
        raise ConfigError("the config is not a mapping", where=name, hint="start with 'workspace:', 'sources:' ...")
    return data, dict(_lines(root, ()))


def _check_size(text: str, name: str) -> None:
    """Refuse, while reading and before anything is built, what only a mistake or malice would write."""
    aliases = depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        aliases += isinstance(event, AliasEvent)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ConfigError(f"the config is nested more than {_MAX_DEPTH} deep", where=name, hint="is this another file?")
        if aliases > _MAX_ALIASES:
            raise ConfigError(f"the config uses more than {_MAX_ALIASES} YAML aliases", where=name, hint="write out what they stand for")


def _size(node: Node | None, known: dict[int, int]) -> int:
    """Nodes of a tree with its aliases written out; more than are allowed where an alias stands within what it stands for."""
    if node is None:
        return 0
    if id(node) not in known:
        known[id(node)] = _MAX_NODES + 1
        inside = [one for pair in node.value for one in pair] if isinstance(node, MappingNode) else node.value
        known[id(node)] = 1 + sum(_size(one, known) for one in inside) if isinstance(node, MappingNode | SequenceNode) else 1
    return known[id(node)]


def _lines(node: Node, at: Location) -> list[tuple[Location, int]]:
    found: list[tuple[Location, int]] = [(at, node.start_mark.line + 1)]
    if isinstance(node, MappingNode):
        for key, value in node.value:
            found.append(((*at, key.value), key.start_mark.line + 1))
            found += [entry for entry in _lines(value, (*at, key.value)) if entry[0] != (*at, key.value)]
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            found += _lines(value, (*at, index))
    return found
