"""Emulate: coarse maps in, fine CF files out, a block of days at a time."""
