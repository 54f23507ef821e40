"""Peers of the model: the same weights trained on the same rows by other libraries, each with its own loss and loop."""
