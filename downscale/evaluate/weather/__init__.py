"""Days and their weather: distances from the training, features, responses of the network, regimes."""
