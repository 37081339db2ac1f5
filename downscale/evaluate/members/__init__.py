"""Several members, several emulators: ensembles, paired tests, rare extremes."""
