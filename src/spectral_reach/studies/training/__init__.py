"""The training loop of the studies."""
