"""Products of unit gradients from the backward pass that a training step makes anyway.

Hooks on the operations of the step's own graph see the same gradients that a pass of the measurement would make, times
whatever factor the step has put before its loss (gradient accumulation, a scaler of half precision). They read and
change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.backward_pass import Collector
from spectral_reach.jacobian.pair_products import PairProducts
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.linearisation import Linearisation

Finished = Callable[[Tensor | None, str], None]
"""Called at the end of the backward pass with <g_i, g_j>, (n_units, n_units) float64, or with None and the reason."""


def watch(backward: UnitBackward, finished: Finished) -> None:
    """Be told by the next backward pass through the outputs."""
    _Watch(backward, finished)


class _Watch:
    def __init__(self, backward: UnitBackward, finished: Finished) -> None:
        self._linearisation = backward.linearisation
        self._products = PairProducts(backward.linearisation)
        self._collector = Collector(backward.uses.known, self._products.take)
        self._finished = finished
        self._factor: float | None = None
        self._complaint = ""
        self._queued = False
        outputs = torch.autograd.graph.get_gradient_edge(backward.linearisation.outputs)
        self._handles: list[RemovableHandle] = [
            outputs.node.register_prehook(partial(self._at_outputs, outputs.output_nr)),
            *(node.register_prehook(partial(self._at_use, node)) for node in self._collector.nodes),
        ]

    def _at_outputs(self, number: int, gradients: Sequence[Tensor | None]) -> None:
        self._end_with_this_pass()
        try:
            d = gradients[number]
            self._factor = 0.0 if d is None else _factor(self._linearisation, d)
        except ValueError as error:
            self._complaint = str(error)

    def _at_use(self, node: Node, gradients: Sequence[Tensor | None]) -> None:
        self._end_with_this_pass()
        self._collector.arrived(node, gradients[0])

    def _end_with_this_pass(self) -> None:
        if not self._queued:
            self._queued = True
            engine = torch.autograd.Variable._execution_engine
            engine.queue_callback(self._end)

    def _end(self) -> None:
        for handle in self._handles:
            handle.remove()
        products, complaint = self._products.of_labelled, self._complaint
        if not complaint and self._factor is None:
            complaint = "the backward pass of the step did not start at the measured outputs"
        elif not complaint and self._collector.missing:
            complaint = f"the backward pass of the step did not reach parameter {self._collector.missing[0]!r}"
        elif not complaint and self._products.not_finite:
            complaint = f"the gradient of parameter {self._products.not_finite!r} is not finite in the training step"
        if complaint:
            self._finished(None, complaint)
        else:
            assert self._factor is not None
            self._finished(products / self._factor**2 if self._factor else products, "")


def _factor(linearisation: Linearisation, d: Tensor) -> float:
    """c in d = c dL/d(outputs), with L the loss that is measured; 0 where both are 0.

    Raises:
        ValueError: the two are not in proportion: the step has another loss.
    """
    (expected,) = torch.autograd.grad(
        linearisation.f,
        linearisation.outputs,
        linearisation.residual.to(linearisation.f.dtype) / linearisation.n_samples,
        retain_graph=True,
    )
    d, expected = (t.detach().flatten().to(torch.promote_types(t.dtype, torch.float32)) for t in (d, expected))
    size, expected_size = (float(torch.linalg.vector_norm(t, dtype=torch.float64)) for t in (d, expected))
    if size == expected_size == 0:
        return 0.0
    # From the norms, which are taken in float64; the product only tells the sign.
    factor = math.copysign(size / expected_size, float(torch.dot(d, expected))) if expected_size else 0.0
    rest = float(torch.linalg.vector_norm(expected.mul_(factor).sub_(d), dtype=torch.float64))
    if not rest <= max(tolerance_of(linearisation), 1e-4) * size:
        raise ValueError(
            "the loss of the training step has another gradient at the outputs than the loss that is measured; "
            "expected the same mean loss up to a factor: give the tracker the loss of the training, on the same labels"
        )
    return factor


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
