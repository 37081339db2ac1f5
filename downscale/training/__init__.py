"""Learning an emulator from pairs: samples, losses, the loop, the three modes and the run folder."""
