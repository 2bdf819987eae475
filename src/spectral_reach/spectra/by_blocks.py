"""A kernel by blocks of parameters: rows of J for some of them at a time, multiplied with each other and added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from spectral_reach.jacobian.backward_pass import plain_arithmetic
from spectral_reach.jacobian.jacobian import pull_many
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.output_space import OutputSpace
from spectral_reach.spectra.directions import directions
from spectral_reach.spectra.pieces import Piece
from spectral_reach.spectra.progress import OnProgress

Pieces = Callable[[Linearisation, OutputSpace], Iterator[Piece]]

_COLUMNS = 2**14
"""Of J that are multiplied at a time: a sum over millions of parameters would lose digits in float32."""

Stretch = tuple[Tensor, int, int]
"""A parameter, and the entries of it from where to where."""


def by_blocks(
    linearisation: Linearisation, space: OutputSpace, pieces: Pieces, budget: int, report: OnProgress
) -> Tensor:
    """Theta, (n k, n k) float64 on the CPU. Half of the budget holds rows of J, the other half makes them."""
    f = linearisation.f
    n, k = space.shape
    blocks = list(_blocks(list(linearisation.parameters.values()), entries_per_block(linearisation, space, budget)))
    kernel = torch.zeros(space.size, space.size, dtype=torch.float64)
    done = 0
    for block in blocks:
        width = sum(stop - start for _, start, stop in block)
        # A model in half precision has its rows multiplied in float32.
        dtype = torch.promote_types(f.dtype, torch.float32)
        rows = torch.empty(space.size, width, dtype=dtype, device=f.device)
        for piece in pieces(linearisation, space):
            for cotangents in directions(piece.outputs, piece.linearisation, budget // 2):
                of_outputs = cotangents.flatten(1).argmax(1)
                where = piece.samples[of_outputs // k] * k + of_outputs % k
                gradients = pull_many(piece.outputs, [parameter for parameter, _, _ in block], cotangents)
                rows.index_copy_(0, where, _stretches(gradients, block, rows))
                done += len(cotangents)
                report(done, len(blocks) * n * k)
        _add_products(kernel, rows)
    return kernel.tril_().add_(kernel.tril(-1).mT)


def _add_products(kernel: Tensor, rows: Tensor) -> None:
    """The products of all rows with each other onto the kernel, its lower triangle at least."""
    height = -(-len(rows) // _STRIPES)
    for start in range(0, rows.shape[1], _COLUMNS):
        part = rows[:, start : start + _COLUMNS]
        for top in range(0, len(rows), height):
            stop = top + height
            with plain_arithmetic(part):
                kernel[top:stop, :stop] += (part[top:stop] @ part[:stop].mT).to("cpu", torch.float64)


_STRIPES = 8
"""Of the kernel: what lies above its diagonal is left out by stripes."""


def entries_per_block(linearisation: Linearisation, space: OutputSpace, budget: int) -> int:
    """Of all parameters together, how many have their rows of J in half of the budget."""
    return max(1, budget // 2 // (space.size * max(4, linearisation.f.element_size())))


def _stretches(gradients: Sequence[Tensor], block: Sequence[Stretch], like: Tensor) -> Tensor:
    """The entries of a block, (V, width), in the precision and on the device of ``like``."""
    parts = [
        gradient.reshape(len(gradient), -1)[:, start:stop]
        for gradient, (_, start, stop) in zip(gradients, block, strict=True)
    ]
    # On one device: a model may be spread over several.
    return torch.cat([part.to(like) for part in parts], 1)


def _blocks(parameters: Sequence[Tensor], entries: int) -> Iterator[list[Stretch]]:
    """All parameters in blocks of at most so many entries."""
    block: list[Stretch] = []
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
