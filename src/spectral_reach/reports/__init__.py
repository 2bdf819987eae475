"""Folders of studies into one HTML page that needs nothing else: claims, interactive figures, runs and settings."""
