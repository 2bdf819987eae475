"""Measuring inside a training loop, on a schedule."""
