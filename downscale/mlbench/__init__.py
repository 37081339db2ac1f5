"""The CORDEX ML-Bench from its files to a submission: the ordinary stages, once a domain."""
