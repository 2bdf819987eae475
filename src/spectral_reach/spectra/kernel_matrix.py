r"""The kernel Theta = J J^T as a matrix, without J: two ways, of which the cheaper one that works is taken.

**By blocks of parameters.** The rows of J for some of the parameters are formed by batched vector-Jacobian products,
multiplied with each other and added up. First derivatives are all it needs. If the rows of all parameters fit into the
memory budget, that is one pass over the output directions and one product of matrices; if not, each block is a pass.

**By products.** Column v of Theta is J (J^T v): one batched product with J^T and one with J, over chunks of
directions. The cost is linear in the number of modes, and of J only the rows of a chunk are ever there. It needs second
derivatives (``jacobian.twice``). A linear readout is taken out, so that no tensor of all classes is formed. Known as
NTK-vector products (Novak, Sohl-Dickstein and Schoenholz 2022).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.jacobian import Jacobian, PlainJacobian, pull_many, signs
from spectral_reach.jacobian.readout_jacobian import ReadoutJacobian
from spectral_reach.jacobian.vjp import directions_per_chunk, squared_norm, squared_norms, vjp
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.output_space import OutputSpace
from spectral_reach.spectra.progress import OnProgress

_MOST_PER_CHUNK = 2**29
"""Bytes of a chunk of directions: larger ones are no faster."""


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
    if _fits_at_once(linearisation, space, left):
        return _by_blocks(linearisation, space, left, report)
    jacobian = _jacobian(linearisation, space, random)
    if jacobian is None:
        return _by_blocks(linearisation, space, left, report)
    return _by_products(jacobian, linearisation, space, left, report)


def _fits_at_once(linearisation: Linearisation, space: OutputSpace, budget: int) -> bool:
    """Whether the rows of J for all parameters take no more than half of the budget."""
    parameters = sum(p.numel() for p in linearisation.parameters.values())
    return space.size * parameters * linearisation.f.element_size() <= budget // 2


def _check_fits(modes: int, memory_budget: int) -> int:
    """Bytes of the kernel itself."""
    kernel = 8 * modes**2
    # The eigendecomposition works on a copy, and in a space of two more.
    if 4 * kernel > memory_budget:
        raise ValueError(
            f"the kernel of {modes:,} outputs needs {4 * kernel / 2**30:.1f} GiB with its eigendecomposition, and "
            f"memory_budget allows {memory_budget / 2**30:.1f} GiB; expected fewer outputs (samples=, classes=), a "
            "larger budget, or method='lanczos', which forms no kernel"
        )
    return kernel


def _jacobian(linearisation: Linearisation, space: OutputSpace, random: torch.Generator) -> Jacobian | None:
    """For products, by the readout where there is one; None if the model cannot be differentiated twice."""
    try:
        through = ReadoutJacobian.of(linearisation, space)
        if through is not None and _is_jacobian(through, linearisation, space, random):
            return through
        return PlainJacobian(linearisation, space, random)
    except ValueError:
        # What is wrong with second derivatives is no matter here: first ones are enough for the other way.
        return None


def _is_jacobian(
    through: ReadoutJacobian, linearisation: Linearisation, space: OutputSpace, random: torch.Generator
) -> bool:
    """One random direction against an ordinary backward pass, and its way back."""
    v = signs(space.of(linearisation.f), random)
    pulled = through.pull_many(v.unsqueeze(0))
    expected = squared_norm(vjp(space.of(linearisation.f), v, linearisation))
    got = float(squared_norms(pulled)[0])
    back = float((through.push_many(pulled)[0].double() * v.double()).sum())
    return max(abs(got - expected), abs(back - expected)) <= tolerance_of(linearisation) * expected


def _by_products(
    jacobian: Jacobian, linearisation: Linearisation, space: OutputSpace, budget: int, report: OnProgress
) -> Tensor:
    kernel = torch.empty(space.size, space.size, dtype=torch.float64)
    for done, cotangents in _directions(linearisation, space, budget):
        columns = jacobian.push_many(jacobian.pull_many(cotangents))
        stop = done + len(cotangents)
        kernel[done:stop] = columns.flatten(1).to("cpu", torch.float64)
        report(stop, space.size)
    return _symmetric(kernel)


def _by_blocks(linearisation: Linearisation, space: OutputSpace, budget: int, report: OnProgress) -> Tensor:
    outputs = space.of(linearisation.f)
    entries = max(1, budget // 2 // (space.size * outputs.element_size()))
    blocks = list(_blocks(list(linearisation.parameters.values()), entries))
    kernel = torch.zeros(space.size, space.size, dtype=torch.float64)
    for number, block in enumerate(blocks):
        parameters = [parameter for parameter, _, _ in block]
        width = sum(stop - start for _, start, stop in block)
        rows = torch.empty(space.size, width, dtype=outputs.dtype, device=outputs.device)
        for done, cotangents in _directions(linearisation, space, budget // 2):
            chunk = rows[done : done + len(cotangents)]
            gradients = pull_many(outputs, parameters, cotangents)
            parts = [
                gradient.flatten(1)[:, start:stop] for gradient, (_, start, stop) in zip(gradients, block, strict=True)
            ]
            torch.cat([part.to(rows.device, rows.dtype) for part in parts], 1, out=chunk)
            report(number * space.size + done + len(cotangents), len(blocks) * space.size)
        # Partial sums in float64: a sum over millions of parameters would lose digits in float32.
        for start in range(0, width, _COLUMNS):
            part = rows[:, start : start + _COLUMNS]
            kernel += (part @ part.mT).to("cpu", torch.float64)
    return kernel


_COLUMNS = 2**14


def _blocks(parameters: list[Tensor], entries: int) -> Iterator[list[tuple[Tensor, int, int]]]:
    """Parameters, or stretches (start, stop) of their entries, in blocks of at most so many entries."""
    block: list[tuple[Tensor, int, int]] = []
    room = entries
    for parameter in parameters:
        start = 0
        while start < parameter.numel():
            stop = min(parameter.numel(), start + room)
            block.append((parameter, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield block
                block, room = [], entries
    if block:
        yield block


def _directions(linearisation: Linearisation, space: OutputSpace, budget: int) -> Iterator[tuple[int, Tensor]]:
    """Unit vectors of the space in chunks, (V, n, k), each with the number of those before."""
    n, k = space.shape
    f = linearisation.f
    chunk = directions_per_chunk(linearisation, min(budget, _MOST_PER_CHUNK))
    for start in range(0, space.size, chunk):
        direction = torch.arange(start, min(start + chunk, space.size), device=f.device)
        cotangents = f.new_zeros((len(direction), n, k))
        cotangents[torch.arange(len(direction), device=f.device), direction // k, direction % k] = 1
        yield start, cotangents


def _symmetric(kernel: Tensor) -> Tensor:
    """(K + K^T) / 2 in place: the two differ by rounding."""
    for start in range(0, len(kernel), _ROWS):
        stop = start + _ROWS
        mean = (kernel[start:stop, start:] + kernel[start:, start:stop].mT) / 2
        kernel[start:stop, start:] = mean
        kernel[start:, start:stop] = mean.mT
    return kernel


_ROWS = 256
