"""Grids and what moves fields between them: cells, weights and domains."""
