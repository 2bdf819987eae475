"""The command spectral-reach, one file a command."""
