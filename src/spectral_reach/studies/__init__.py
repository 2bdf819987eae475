"""Families of runs that are trained, measured and compared."""
