"""What every test relies on: one thread a process, no display, no network."""

import os

# Set before any test imports torch: worker processes share two cores, and a fixed number of threads fixes the
# order of every floating-point sum. A test that reaches for the Hugging Face hub fails at once.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
