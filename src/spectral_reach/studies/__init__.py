"""Families of runs that are trained, measured and compared, and tasks that measure what they have left."""
