"""Emulate regional climate models: prepare, train, apply, evaluate."""

__version__ = "0.1.0"
