"""The per-unit estimator without its randomness, against the oracle.

A probe of unit i is a quadratic form z^T M_i z in random signs z, and units do not interact. So the probes of the basis
vectors, the same one for every unit at once, sum to the traces Tr(M_i) exactly: the mean over all draws.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import oracle
import small_models
import torch
from comparing import RELATIVE
from torch import Tensor, nn
from torch.func import jacfwd
from torch.overrides import TorchFunctionMode

from spectral_reach.estimators import per_unit
from spectral_reach.jacobian.readout import HiddenProbes, Readout, find_readout
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import linearise
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.parameters import select_parameters

ZERO = 1e-25
"""Squares of rounding errors, where a parameter has no influence."""


@dataclass(frozen=True)
class ByUnit:
    """What the package says of each labelled unit, and the oracle.

    ``traces`` Tr(J_i J_i^T); ``squared_norms`` ||g_i||^2; ``products`` <g_i, g_j>. ``part``: traces of ``chosen`` units
    from a pass of their own, None where there is none. All but ``reason`` are empty where there is a reason.
    """

    reason: str
    unknown: Mapping[str, str]
    readout: Readout | None
    traces: np.ndarray
    squared_norms: np.ndarray
    products: np.ndarray
    chosen: Sequence[int]
    part: np.ndarray | None
    expected_traces: np.ndarray
    expected_products: np.ndarray

    def disagreements(self, relative: float = RELATIVE) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What differs from the oracle: name -> (got, expected)."""
        pairs = {
            "traces": (self.traces, self.expected_traces),
            "squared_norms": (self.squared_norms, self.expected_products.diagonal()),
            "products": (self.products, self.expected_products),
        }
        if self.part is not None:
            pairs["part"] = (self.part, self.expected_traces[list(self.chosen)])
        return {
            name: (got, expected)
            for name, (got, expected) in pairs.items()
            if not abs(got - expected).max() <= relative * abs(expected).max() + ZERO  # NaN disagrees
        }


def measured(subject: small_models.Subject, batch: Any, names: Sequence[str] | None = None, seed: int = 0) -> ByUnit:
    """``names``: the measured parameters, None for all that are trainable."""
    with _forward_mode():
        explicit = subject.explicit(batch, names, seed)
    gradients = explicit.unit_gradients()
    expected = ByUnit(
        reason="",
        unknown={},
        readout=None,
        traces=np.empty(0),
        squared_norms=np.empty(0),
        products=np.empty(0),
        chosen=sorted({len(explicit.units) - 1, 0}, reverse=True),
        part=None,
        expected_traces=np.array([(explicit.J[explicit.unit == unit] ** 2).sum() for unit in explicit.units]),
        expected_products=gradients @ gradients.T,
    )
    with leaving_no_trace(subject.model):
        lin = linearise(
            subject.model,
            batch,
            resolve_loss(subject.loss.given),
            select_parameters(subject.model, names),
            seed=seed,
        )
        backward = UnitBackward.of(lin)
        if backward.reason:
            return replace(expected, reason=backward.reason)
        u = lin.residual.to(lin.f.dtype)
        part = backward.over(torch.tensor(expected.chosen))
        return replace(
            expected,
            unknown=dict(backward.uses.unknown),
            readout=find_readout(backward),
            traces=_traces(backward),
            squared_norms=backward.squared_norms(u).numpy() / lin.n_samples**2,
            products=backward.inner_products(u).numpy() / lin.n_samples**2,
            part=None if part is None else _traces(part),
        )


def _with_an_axis(f: Callable[..., Tensor]) -> Callable[..., dict[str, Tensor]]:
    """Forward-mode Jacobian by parameter, one that is a single number as a vector of one."""
    return lambda p: {name: c if p[name].ndim else c.unsqueeze(-1) for name, c in jacfwd(f)(p).items()}


@contextmanager
def _forward_mode() -> Iterator[None]:
    """The oracle differentiates forwards: operations that PyTorch cannot differentiate so, by their formulas."""

    def weight_norm(v: Tensor, g: Tensor, dim: int) -> Tensor:
        return v * (g / v.square().sum([axis for axis in range(v.ndim) if axis != dim], keepdim=True).sqrt())

    def embedding_bag(bag: nn.EmbeddingBag, x: Tensor) -> Tensor:
        h = bag.weight[x]
        return {"sum": h.sum(1), "mean": h.mean(1), "max": h.amax(1)}[bag.mode]

    with (
        patch.object(oracle, "jacfwd", _with_an_axis),
        patch.object(torch, "_weight_norm", weight_norm),
        patch.object(nn.EmbeddingBag, "forward", embedding_bag),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        torch._C._set_mkldnn_enabled(False)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch._C._set_mkldnn_enabled(True)
            torch.backends.mha.set_fastpath_enabled(True)


def unit_traces(subject: small_models.Subject, batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tr(J_i J_i^T) of each labelled unit by the per-unit estimator, in the mean over all signs, and by the oracle."""
    found = measured(subject, batch)
    assert not found.reason, found.reason
    return found.traces, found.expected_traces


def _traces(backward: UnitBackward) -> np.ndarray:
    lin = backward.linearisation
    readout = find_readout(backward)
    probe = per_unit._probe(backward)
    # A probe with all signs at zero is what is known exactly.
    known = probe(lambda columns, dtype: torch.zeros(lin.n_samples, columns, dtype=dtype))
    if readout is not None and readout.hidden is None:
        return known.numpy()
    components = lin.n_outputs if readout is None else HiddenProbes.of(readout.weight).rank
    row_in_unit = torch.cat([torch.arange(int(n)) for n in lin.samples_of_unit])
    total = known.clone()
    for row in range(int(row_in_unit.max()) + 1):
        for component in range(components):

            def basis(columns: int, dtype: torch.dtype, row: int = row, component: int = component) -> Tensor:
                z = torch.zeros(lin.n_samples, columns, dtype=dtype)
                z[row_in_unit == row, component] = 1
                return z

            total += probe(basis) - known
    return total.numpy()


def check(
    subject: small_models.Subject,
    batch: Any,
    names: Sequence[str] | None = None,
    *,
    readout: bool | None = None,
    unknown: Iterable[str] = (),
    relative: float = RELATIVE,
) -> ByUnit:
    """Everything agrees with the oracle, by layer rules but for the parameters ``unknown``.

    ``readout``: whether a linear one is found, where that matters.
    """
    found = measured(subject, batch, names)
    assert not found.reason, found.reason
    assert set(found.unknown) == set(unknown), found.unknown
    wrong = found.disagreements(relative)
    assert wrong == {}, wrong
    assert readout is None or (found.readout is not None) == readout, found.readout
    return found


def classifier(
    model: nn.Module,
    inputs: Callable[[int], Tensor],
    k: int = 3,
    rows: Sequence[int] = (),
    *,
    ignored: float = 0.25,
    double: bool = True,
) -> small_models.Subject:
    """Cross entropy over the last axis of (B, *rows, k) outputs; some labels are -100."""

    def draw(b: int) -> tuple[Tensor, Tensor]:
        x = inputs(b)
        return x.double() if double and x.is_floating_point() else x, small_models.labels([b, *rows], k, ignored)

    return small_models.Subject(model.double() if double else model, oracle.CROSS_ENTROPY, "classes last", draw)


class InDouble(TorchFunctionMode):
    """float64 wherever a model asks for float32: what transformers' norms and softmaxes compute in, whatever comes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        exact = {torch.float32: torch.float64}
        args = tuple(exact.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        kwargs = {k: exact.get(v, v) if isinstance(v, torch.dtype) else v for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)
