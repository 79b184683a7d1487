"""Training of the reference models: configuration, data, objectives, the loop. Imports no torch."""
