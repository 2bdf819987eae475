"""Products of unit gradients from the backward pass that a training step makes anyway.

Hooks on the operations of the step's own graph see the same gradients that a pass of the measurement would make, times
whatever factor the step has put before its loss (gradient accumulation, a scaler of half precision). They read and
change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.backward_pass import Collector, plain_arithmetic
from spectral_reach.jacobian.forms import at_least_float32, norm, row_squares
from spectral_reach.jacobian.pair_products import PairProducts
from spectral_reach.jacobian.some_units import SomeUnitProducts, SomeUnits
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts
from spectral_reach.measured.linearisation import Linearisation

_COMPARED = 256
"""Rows on which the loss of the step is compared with the measured one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What the backward pass of a step showed.

    Attributes:
        products: of the unit gradients; None for a single unit.
        squared_norm: ||g||^2.
        chi_loss_of_row: ||r_n||^2 of each sample, (N,) float64 on the CPU.
    """

    products: UnitGradientProducts | SomeUnitProducts | None
    squared_norm: float
    chi_loss_of_row: Tensor


Finished = Callable[[Seen | None, str], None]
"""Called at the end of the backward pass, with None and the reason where it showed something else."""


def watch(backward: UnitBackward, products: PairProducts | SomeUnits, finished: Finished) -> None:
    """Let the next backward pass through the outputs tell ``products`` of the gradients of its units."""
    _Watch(backward, products, finished)


class _Watch:
    def __init__(self, backward: UnitBackward, products: PairProducts | SomeUnits, finished: Finished) -> None:
        self._linearisation = backward.linearisation
        self._products = products
        self._some = products if isinstance(products, SomeUnits) else None
        self._collector = Collector(backward.uses.known, self._products.take)
        self._finished = finished
        self._factor: float | None = None
        self._chi_loss_of_row = torch.empty(0)
        self._complaint = ""
        self._queued = False
        outputs = torch.autograd.graph.get_gradient_edge(self._linearisation.outputs)
        self._handles: list[RemovableHandle] = [
            outputs.node.register_prehook(partial(self._at_outputs, outputs.output_nr)),
            *(node.register_prehook(partial(self._at_use, node)) for node in self._collector.nodes),
        ]
        if self._some is not None:
            self._handles += [
                leaf.register_prehook(partial(self._at_leaf, name)) for name, leaf in backward.leaves.items()
            ]

    def _at_outputs(self, number: int, gradients: Sequence[Tensor | None]) -> None:
        self._end_with_this_pass()
        try:
            d = gradients[number]
            if d is None:
                d = torch.zeros_like(self._linearisation.outputs)
            self._factor, self._chi_loss_of_row = _compared(self._linearisation, d.detach())
        except ValueError as error:
            self._complaint = str(error)

    def _at_use(self, node: Node, gradients: Sequence[Tensor | None]) -> None:
        self._end_with_this_pass()
        if self._complaint:
            return
        try:
            self._collector.arrived(node, gradients[0])
        except (RuntimeError, ValueError) as error:
            # The training goes on; the row says what happened to the measurement.
            self._complaint = f"the gradients of the step could not be taken apart: {error!r}"

    @torch.no_grad()
    def _at_leaf(self, name: str, gradients: Sequence[Tensor | None]) -> None:
        assert self._some is not None
        self._end_with_this_pass()
        if self._complaint:
            return
        with plain_arithmetic(self._linearisation.f):
            self._some.take_sum(name, gradients[0])

    def _end_with_this_pass(self) -> None:
        if not self._queued:
            self._queued = True
            engine = torch.autograd.Variable._execution_engine
            engine.queue_callback(self._end)

    def _end(self) -> None:
        for handle in self._handles:
            handle.remove()
        complaint = self._complaint
        missing = [*self._collector.missing, *(self._some.waiting if self._some else ())]
        if not complaint and self._factor is None:
            complaint = "the backward pass of the step did not start at the measured outputs"
        elif not complaint and missing:
            complaint = f"the backward pass of the step did not reach parameter {missing[0]!r}"
        elif not complaint and self._products.not_finite:
            complaint = f"the gradient of parameter {self._products.not_finite!r} is not finite in the training step"
        elif not complaint and self._some is not None and self._some.not_the_sum:
            complaint = (
                f"the gradient of parameter {self._some.not_the_sum!r} in the training step is not that of the "
                "measured loss alone; expected the backward pass of step_loss and of nothing else (a penalty, a second "
                "loss, a hook that changes gradients): call it by itself, or leave step_loss out"
            )
        if complaint:
            self._finished(None, complaint)
        else:
            self._finished(self._seen(), "")

    def _seen(self) -> Seen:
        factor = self._factor or 1.0  # where all gradients are 0 it does not matter
        products, squared_norm = self._products.seen(factor)
        return Seen(products=products, squared_norm=squared_norm, chi_loss_of_row=self._chi_loss_of_row)


@torch.no_grad()
def _compared(linearisation: Linearisation, d: Tensor) -> tuple[float, Tensor]:
    """c in d = c dL/d(outputs), with L the loss that is measured, and ||r_n||^2 of each sample; 0 where both are 0.

    Rows without a label have to have no gradient. The others are compared, all or many of them by chance.

    Raises:
        ValueError: the two are not in proportion: the step has another loss.
    """
    N = linearisation.n_samples
    rows = linearisation.labelled(d)
    squares = row_squares(at_least_float32(rows)).cpu()
    size_elsewhere = 0.0
    if rows.numel() < d.numel():
        size_elsewhere = norm(at_least_float32(d)) ** 2 - float(squares.sum())
    if N > _COMPARED:
        # A generator of its own: looking at a step draws nothing from those of the training.
        random = torch.Generator().manual_seed(N)
        chosen = torch.randperm(N, generator=random)[:_COMPARED].to(rows.device)
    else:
        chosen = torch.arange(N, device=rows.device)
    got = at_least_float32(rows[chosen])
    expected = linearisation.residual_of(chosen).to(got.dtype) / N
    size, expected_size = (norm(t) for t in (got, expected))
    if size == expected_size == 0 and float(squares.sum()) == 0:
        return 0.0, squares
    # From the norms, which are the more exact; the product only tells the sign.
    sign = float(torch.dot(got.flatten(), expected.flatten()))
    factor = math.copysign(size / expected_size, sign) if expected_size else 0.0
    rest = norm(expected.mul_(factor).sub_(got))
    tolerance = max(tolerance_of(linearisation), 1e-4)
    if not (rest <= tolerance * size and size_elsewhere <= tolerance * float(squares.sum()) and factor):
        raise ValueError(
            "the loss of the training step has another gradient at the outputs than the loss that is measured; "
            "expected the same mean loss up to a factor: give the tracker the loss of the training, on the same labels"
        )
    return factor, squares * (N / factor) ** 2


def check_path(linearisation: Linearisation, loss: object) -> None:
    """The loss depends on the measured parameters through the measured outputs alone.

    Raises:
        ValueError: it does not.
        TypeError: it is no scalar tensor with a graph.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.grad_fn is None:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise TypeError(f"step_loss is {got}; expected the scalar loss of the step before its backward pass")
    outputs = torch.autograd.graph.get_gradient_edge(linearisation.outputs).node
    names = {id(parameter): name for name, parameter in linearisation.parameters.items()}
    seen: set[Node] = {loss.grad_fn}
    todo: list[Node] = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is outputs:
            continue
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in names:
            raise ValueError(
                f"step_loss depends on parameter {names[id(variable)]!r} by another way than the outputs (a penalty, "
                "an auxiliary loss); expected a loss of the outputs alone: leave step_loss out, and the measurement "
                "makes passes of its own"
            )
        for source, _ in node.next_functions:
            if source is not None and source not in seen:
                seen.add(source)
                todo.append(source)
    if outputs not in seen:
        raise ValueError("step_loss does not depend on outputs; expected the loss of what the model returned")
