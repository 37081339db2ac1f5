"""The command line: parse, call one stage, say where the result is."""
