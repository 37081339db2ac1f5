"""Judge predictions against the truth, and say where an emulator may be trusted."""
