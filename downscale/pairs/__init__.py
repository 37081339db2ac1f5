"""Pairs of coarse predictors and fine targets: build, store, split, normalise."""
