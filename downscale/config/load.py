"""YAML to config and back: YAML 1.2, no surprises, every complaint with its line."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from downscale.config.schema import ExperimentConfig, Strict
from downscale.config.text import Location, parse, read
from downscale.errors import ConfigError

ENVIRONMENT_WHITELIST = ("DOWNSCALE_DATA", "DOWNSCALE_WORKSPACE", "HOME", "USER", "SCRATCH", "WORK", "STORE", "TMPDIR", "SLURM_TMPDIR")
Section = TypeVar("Section", bound=BaseModel)


def load_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read, expand, override and validate an experiment.

    Args:
        path: the YAML file.
        overrides: ``a.b=c`` strings; the value is read as YAML.

    Raises:
        ConfigError: with the file, the line and the YAML path of every finding.
    """
    data, lines = parse(read(path), str(path))
    for override in overrides:
        _override(data, override)
    data = _expand(data, ())
    try:
        config = ExperimentConfig.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path, lines, overrides) from None
    return _absolute(config, path.resolve().parent)


def load_section(model: type[Section], overrides: Sequence[str]) -> Section:
    """A part of the config made of ``a.b=c`` strings alone; ConfigError with every finding."""
    data: dict[str, Any] = {}
    for override in overrides:
        _override(data, override)
    try:
        return model.model_validate(_expand(data, ()))
    except ValidationError as error:
        raise _explain(error, Path("--set"), {(): 0}, overrides) from None


def dump_yaml(config: BaseModel) -> str:
    """The config with all defaults, as YAML that loads back to the same object."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(config.model_dump(mode="json", exclude_none=True), stream)
    return stream.getvalue()


def digest(value: Any) -> str:
    """sha256 of JSON-like data or a config section, independent of key order."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """One line per leaf that differs between two JSON-like trees: ``path: old -> new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(set(old) | set(new), key=str)
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))]
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _override(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set '{override}' is not of the form a.b=c", hint="e.g. --set train.epochs=10")
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise ConfigError(
            f"--set {path}: '{text}' is not a YAML value", hint="quote lists and texts, e.g. --set 'train.on=[A/perfect]'"
        ) from None
    keys = path.split(".")
    node: Any = data
    for key in keys[:-1]:
        node = _child(node, key, path)
    if isinstance(node, list):
        node[_index(node, keys[-1], path)] = value
    elif isinstance(node, dict):
        node[keys[-1]] = value
    else:
        raise ConfigError(f"--set {path}: nothing to set below a plain value", hint="see downscale config schema")


def _child(node: Any, key: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, key, path)]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {path}: '{key}' is below a plain value", hint="see downscale config schema")
    return node.setdefault(key, {})


def _index(node: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise ConfigError(f"--set {path}: '{key}' is not a position in a list of {len(node)}", hint="positions count from 0")
    return int(key)


def _expand(value: Any, at: Location) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, (*at, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, (*at, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        return re.sub(r"\$\{([^}]*)\}", lambda match: _environment(match.group(1), at), value)
    return value


def _environment(name: str, at: Location) -> str:
    where = _dotted(at)
    if name not in ENVIRONMENT_WHITELIST:
        raise ConfigError(
            f"${{{name}}} is not a variable that configs may use", where=where, hint=f"allowed: {', '.join(ENVIRONMENT_WHITELIST)}"
        )
    if not os.environ.get(name):
        raise ConfigError(f"${{{name}}} is not set", where=where, hint=f"export {name}=/path/to/it and run again")
    return os.environ[name]


def _dotted(at: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in at)


def _explain(error: ValidationError, path: Path, lines: Mapping[Location, int], overrides: Sequence[str]) -> ConfigError:
    paths = [override.partition("=")[0] for override in overrides]
    findings = []
    for item in error.errors():
        at: Location = item["loc"]
        if at[:2] == ("upscale", "to"):
            at = at[:2] + at[3:]  # the third part is the name of the union's branch
        reason = _reason(item["type"], item["msg"], at)
        if not at:
            at, reason = _named(reason)
        known = max((at[:n] for n in range(len(at) + 1) if at[:n] in lines), key=len)
        given = next((one for one in paths if _sets(tuple(one.split(".")), tuple(map(str, at)), len(known))), "")
        place = f"--set {given}" if given else f"line {lines[known]}"
        text = f"{place}: {_dotted(at) or 'config'}: {reason}"
        if text not in findings:
            findings.append(text)
    return ConfigError(
        f"the config has {len(findings)} error{'s' if len(findings) > 1 else ''}",
        where=str(path),
        hint="mend the lines below; downscale config schema lists every key",
        findings=findings,
    )


def _named(reason: str) -> tuple[Location, str]:
    """Place and rest of a complaint about several sections at once, which begins with the place it is about."""
    place, _, rest = reason.partition(": ")
    return (tuple(place.split(".")), rest) if rest and re.fullmatch(r"[\w.-]+", place) else ((), reason)


def _sets(override: tuple[str, ...], at: tuple[str, ...], known: int) -> bool:
    """Whether a --set gave the value at a location, or made the section that the file does not hold."""
    return bool(at) and (at[: len(override)] == override or (len(at) > known and override[: known + 1] == at[: known + 1]))


def _reason(kind: str, message: str, location: Sequence[str | int]) -> str:
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _keys_beside(location), n=1)
        return "unknown key" + (f", did you mean '{close[0]}'?" if close else "")
    if kind == "missing":
        return "is required"
    return message.removeprefix("Value error, ")


def _keys_beside(location: Sequence[str | int]) -> list[str]:
    """Keys of the section that holds a location (all keys of the schema when the section is inside a union)."""
    model: Any = ExperimentConfig
    for part in location[:-1]:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[str(part)].annotation
        models = _models_in(model)
        model = models[0] if len(models) == 1 else model
    return [key for found in _models_in(model) for key in found.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def _absolute(config: ExperimentConfig, base: Path) -> ExperimentConfig:
    """Relative paths are relative to the config file, wherever the command runs."""
    data = config.model_dump()
    data["workspace"] = _joined(base, config.workspace)
    for name, source in config.sources.items():
        data["sources"][name]["files"] = [_joined(base, entry) for entry in source.files]
    if config.forcings:
        data["forcings"]["file"] = _joined(base, config.forcings.file)
    if isinstance(data["upscale"]["to"], dict) and "grid_file" in data["upscale"]["to"]:
        data["upscale"]["to"]["grid_file"] = _joined(base, data["upscale"]["to"]["grid_file"])
    if config.upscale.weights_file:
        data["upscale"]["weights_file"] = _joined(base, config.upscale.weights_file)
    for region in data["evaluate"]["regions"].values():
        if region["mask"]:
            region["mask"] = _joined(base, region["mask"])
    data["hpc"] = config.hpc.beside(base)
    return ExperimentConfig.model_validate(data)


def _joined(base: Path, path: str) -> str:
    return os.path.normpath(base / path)
