"""What a spectrum will cost, told before it starts: from one training step of the same model on the same batch."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from spectral_reach.studies.data.dataset import Batch

_STEPS_A_PRODUCT = 2.2
"""Training steps that a product with J^T and one with J take, at most: 1.0 to 1.6 were measured on Llamas."""


def seconds_of_a_step(network: Any, batch: Batch) -> float:
    """One forward and backward pass, without what only the first one takes."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    inputs, targets = batch
    for _ in range(2):
        start = time.perf_counter()
        loss = cross_entropy(network(inputs).logits.flatten(0, -2), targets.flatten())
        torch.autograd.grad(loss, parameters, allow_unused=True)
    return time.perf_counter() - start


def lanczos_cost(step: float, outputs: int, *, steps: int, density_vectors: int, probes: int) -> str:
    """Of at most so many steps, from each of the vectors."""
    products = steps * (1 + density_vectors)
    from_random = f", {density_vectors} of {1 + density_vectors} times from random vectors" if density_vectors else ""
    return (
        f"At most {products} products with the kernel of {outputs:,} outputs{from_random}, and {probes} random probes: "
        f"at most about {_words(step * (_STEPS_A_PRODUCT * products + probes))}."
    )


def explicit_cost(step: float, batch: Batch, samples: int, classes: int, *, parameters: int, budget: int) -> str:
    """Of the kernel of so many outputs and its eigendecomposition, by ``spectra.kernel_matrix`` on units apart.

    In operations per parameter a step is 6 for every token. A direction is 2 a pass, over the tokens of its sequence;
    the rows of J are multiplied with each other, about three times as fast. Where they do not fit into half of the
    budget, blocks of them take a pass each, or products take over.
    """
    units, tokens, modes = len(batch[0]), batch[0].numel(), samples * classes
    passes = 1 + math.ceil(modes * parameters * _FLOAT32 / max(1, (budget - 8 * modes**2) // 2))
    by_blocks = modes * passes / (3 * units) + modes**2 / (9 * tokens)
    seconds = step * min(by_blocks, _STEPS_A_PRODUCT * modes) + modes**3 / _EIGEN
    return (
        f"The kernel of {modes:,} outputs ({samples:,} samples x {classes:,} classes), {8 * modes**2 / 2**30:.2g} GiB: "
        f"about {_words(seconds)}."
    )


_FLOAT32 = 4  # bytes

_EIGEN = 1e9
"""Cubed modes a second of a symmetric eigendecomposition in float64 on one core."""


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
