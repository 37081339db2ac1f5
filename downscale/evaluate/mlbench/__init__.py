"""The diagnostics of the CORDEX ML-Bench."""
