r"""The kernel Theta = J J^T as a matrix, without J, in two ways: by one block where that fits, else the cheaper one.

**By blocks of parameters** (``by_blocks``). The rows of J for some of the parameters are formed by batched vector-
Jacobian products, multiplied with each other and added up. First derivatives are all it needs. If the rows of all
parameters fit into half of the memory budget, that is one pass over the output directions; if not, each block is one.
Units that do not see each other have graphs of their own (``pieces``), so that a direction costs one unit.

**By products** (``by_products``). Column v of Theta is J (J^T v): one batched product with J^T and one with J over
the whole batch. The cost is linear in the number of modes, and of J only the rows of a chunk are ever there. It needs
second derivatives (``jacobian.twice``). A linear readout is taken out, so that no tensor of all classes is formed.
Known as NTK-vector products (Novak, Sohl-Dickstein and Schoenholz 2022).

With B units of T samples each, P parameters and n directions, a backward pass of one unit being about 4 P T operations,

    by blocks:    n (2 P T (blocks + 1)) + 2 n^2 P,    the last term a product of matrices, about three times as fast,
    by products:  n (8 P T B).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.output_space import OutputSpace
from spectral_reach.spectra.by_blocks import by_blocks, entries_per_block
from spectral_reach.spectra.by_products import by_products, jacobian_of
from spectral_reach.spectra.pieces import by_unit, units_stand_alone, whole
from spectral_reach.spectra.progress import OnProgress

_MATRICES = 3
"""How much faster a product of large matrices runs than the operations of a graph."""


def kernel_matrix(
    linearisation: Linearisation, space: OutputSpace, *, memory_budget: int, random: torch.Generator, report: OnProgress
) -> Tensor:
    """Theta in the chosen space, (n k, n k) float64 on the CPU, symmetric; rows and columns run over n, then over k.

    Args:
        linearisation: the model on the batch.
        space: the outputs.
        memory_budget: bytes for the kernel, its eigendecomposition and what leads to it, beside the model and the graph
            of its forward pass.
        random: for checks.
        report: called with the directions done, and with all there are.

    Raises:
        ValueError: the kernel alone needs more than the budget.
    """
    left = memory_budget - _check_fits(space.size, memory_budget)
    alone = units_stand_alone(linearisation, space, random)
    blocks = _blocks(linearisation, space, left)
    if blocks > 1 and not _blocks_are_cheaper(blocks, linearisation, space, alone=alone):
        jacobian = jacobian_of(linearisation, space, random)
        if jacobian is not None:
            return by_products(jacobian, linearisation, space, left, report)
    return by_blocks(linearisation, space, by_unit if alone else whole, left, report)


def _check_fits(modes: int, memory_budget: int) -> int:
    """Bytes of the kernel itself."""
    kernel = 8 * modes**2
    # The eigendecomposition works on a copy, and in a space of two more.
    if 4 * kernel > memory_budget:
        raise ValueError(
            f"the kernel of {modes:,} outputs needs {4 * kernel / 2**30:.3g} GiB with its eigendecomposition, and "
            f"memory_budget allows {memory_budget / 2**30:.3g} GiB; expected fewer outputs (samples=, classes=), a "
            "larger budget, or method='lanczos', which forms no kernel"
        )
    return kernel


def _blocks(linearisation: Linearisation, space: OutputSpace, budget: int) -> int:
    """Passes over the directions that blocks of parameters take."""
    parameters = sum(p.numel() for p in linearisation.parameters.values())
    return math.ceil(parameters / entries_per_block(linearisation, space, budget))


def _blocks_are_cheaper(blocks: int, linearisation: Linearisation, space: OutputSpace, *, alone: bool) -> bool:
    """By the operations above, in units of n P T; T is at least the samples of a unit."""
    units = linearisation.n_units
    samples = linearisation.n_samples / units
    passes = 2 * (blocks + 1) * (1 if alone else units)
    return passes + 2 * space.size / samples / _MATRICES < 8 * units
