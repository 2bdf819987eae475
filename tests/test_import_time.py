"""`import spectral_reach` costs next to nothing on top of torch, and every public name is really there."""

import subprocess
import sys

import pytest

import spectral_reach

LIMIT = 0.3  # seconds on top of `import torch`, promised in the first issue
CLOCK = """
import time
start = time.perf_counter()
import torch
after_torch = time.perf_counter()
import spectral_reach as sr
sr.decompose
after_us = time.perf_counter()
print(after_us - after_torch)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_import_adds_little_to_torch() -> None:
    # A busy machine only ever adds time, so the least of several is the cost of the import itself.
    assert min(float(run(CLOCK)) for _ in range(3)) < LIMIT


def test_import_alone_loads_neither_torch_nor_numpy() -> None:
    heavy = run("import sys, spectral_reach; print(sorted({'torch', 'numpy', 'pyarrow', 'rich'} & set(sys.modules)))")
    assert heavy.strip() == "[]"


@pytest.mark.parametrize("name", spectral_reach.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(spectral_reach, name) is not None
    assert name in dir(spectral_reach)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'spectral_reach' has no attribute 'spectral_reach_of_a_toaster'"):
        _ = spectral_reach.spectral_reach_of_a_toaster
