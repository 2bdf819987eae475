"""Figures, one file each, one visual language."""
