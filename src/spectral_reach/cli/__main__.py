"""``python -m spectral_reach.cli`` is ``spectral-reach``."""

from spectral_reach.cli.app import main

main()
