"""Run folders: files that survive a kill at any instant."""
