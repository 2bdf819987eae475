"""Spectral Reach inside other people's training loops: one framework a module."""
