"""What a stage needs of the machine it runs on: locks and signals."""
