"""What every test relies on: one thread a process, no display, no network, a cache that is not the user's."""

import os
from pathlib import Path

# Set before any test imports torch: worker processes share two cores, and a fixed number of threads fixes the
# order of every floating-point sum. A test that reaches for the Hugging Face hub fails at once.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
# Tokenizers take many seconds to learn. Their cache knows by content whether it still holds; tests share it.
os.environ.setdefault("SPECTRAL_REACH_CACHE", str(Path(__file__).parents[1] / ".pytest_cache" / "spectral-reach"))
