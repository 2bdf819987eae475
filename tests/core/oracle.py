"""What ``sr.decompose`` must say, by another road: an explicit forward-mode Jacobian and the definitions in numpy.

Nothing of the package is used but the random signs of its error bar. The Jacobian comes column by column from
forward-mode differentiation instead of backward passes; the loss gradient from formulas written by hand; the labelled
rows from plain loops; statistics of batch normalisation and masks of dropout from a recording pass with modules of
this file; everything after that is numpy on dense matrices. Source of the definitions: arXiv 2605.31244.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacfwd
from torch.nn.attention import SDPBackend, sdpa_kernel

IGNORED = -100


# --- losses by hand -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowLoss:
    """The loss of one row and its gradient, by formulas; ``given`` is what the package gets for ``loss``."""

    given: Any
    value: Callable[[np.ndarray, Any], float]
    gradient: Callable[[np.ndarray, Any], np.ndarray]

    def times(self, factor: float) -> RowLoss:
        """The same loss in other units; always given as a callable."""

        def scaled(outputs: Tensor, targets: Tensor) -> Tensor:
            return factor * as_callable(self.given)(outputs, targets)

        return RowLoss(
            scaled,
            lambda f, y: factor * self.value(f, y),
            lambda f, y: factor * self.gradient(f, y),
        )


def as_callable(given: Any) -> Callable[[Tensor, Tensor], Tensor]:
    if given == "cross_entropy":
        return F.cross_entropy
    if given == "mse":
        return lambda outputs, targets: 0.5 * (outputs - targets).square().sum(1).mean()
    return given


def _log_softmax(f: np.ndarray) -> np.ndarray:
    shifted = f - f.max()
    return shifted - math.log(np.exp(shifted).sum())


def _one_hot(label: Any, k: int) -> np.ndarray:
    return np.eye(k)[int(label)]


CROSS_ENTROPY = RowLoss(
    "cross_entropy",
    lambda f, y: -_log_softmax(f)[int(y)],
    lambda f, y: np.exp(_log_softmax(f)) - _one_hot(y, len(f)),
)
SQUARED_ERROR = RowLoss(
    "mse",
    lambda f, y: 0.5 * float(((f - y) ** 2).sum()),
    lambda f, y: f - y,
)
LOG_COSH = RowLoss(
    lambda outputs, targets: (outputs - targets).cosh().log().sum(1).mean(),
    lambda f, y: float(np.log(np.cosh(f - y)).sum()),
    lambda f, y: np.tanh(f - y),
)
BINARY = RowLoss(
    lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(1).mean(),
    lambda f, y: float((np.logaddexp(0.0, f) - y * f).sum()),
    lambda f, y: 1 / (1 + np.exp(-f)) - y,
)


def smoothed_cross_entropy(epsilon: float) -> RowLoss:
    """Cross entropy against (1 - epsilon) of the label and epsilon of the uniform distribution."""
    return RowLoss(
        nn.CrossEntropyLoss(label_smoothing=epsilon),
        lambda f, y: -(1 - epsilon) * _log_softmax(f)[int(y)] - epsilon * _log_softmax(f).mean(),
        lambda f, y: np.exp(_log_softmax(f)) - (1 - epsilon) * _one_hot(y, len(f)) - epsilon / len(f),
    )


# --- which rows carry a label -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledRow:
    unit: int
    output: tuple[Any, ...]  # index of the row's K outputs in the output tensor
    target: Any


def labelled_rows(targets: Tensor, layout: str, *, shift: bool = False) -> list[LabelledRow]:
    """Rows by plain loops.

    ``layout``: "classes last" (B, ..., K) with labels (B, ...), "classes second" (B, K, ...) with labels (B, ...),
    "regression" (both of one shape, K last) or "scalar" (both (B,)). ``shift``: label t + 1 belongs to output t.
    """
    rows = []
    values = targets.numpy()
    # A label is one class index; a regression target is one row of K numbers, or a single number.
    positions = values.shape if layout in ("classes last", "classes second", "scalar") else values.shape[:-1]
    for index in np.ndindex(*positions):
        target = values[index]
        if layout.startswith("classes") and target == IGNORED:
            continue
        where: tuple[Any, ...] = index
        if shift:
            if index[1] == 0:
                continue
            where = (index[0], index[1] - 1)
        if layout == "classes second":
            where = (index[0], slice(None), *index[1:])
        rows.append(LabelledRow(index[0], where, target))
    return rows


# --- a model whose randomness and batch statistics are constants ----------------------------------------------------


class Tape:
    """Constants that a recording pass makes and every later pass gets again, in the order of use."""

    def __init__(self) -> None:
        self.constants: list[Any] = []
        self.position: int | None = None  # None while recording

    def next(self, make: Callable[[], Any]) -> Any:
        if self.position is None:
            self.constants.append(make())
            return self.constants[-1]
        self.position += 1
        return self.constants[self.position - 1]


class TapedDropout(nn.Module):
    def __init__(self, p: float, tape: Tape) -> None:
        super().__init__()
        self.p, self.tape = p, tape

    def forward(self, x: Tensor) -> Tensor:
        # The mask depends on the shape and the generator only, so a tensor of ones shows it.
        return x * self.tape.next(lambda: F.dropout(torch.ones_like(x), self.p, training=True))


class TapedBatchNorm(nn.Module):
    def __init__(self, original: nn.modules.batchnorm._BatchNorm, tape: Tape) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias
        self.eps, self.tape = original.eps, tape

    def forward(self, x: Tensor) -> Tensor:
        per_channel = [1, -1] + [1] * (x.ndim - 2)
        mean, variance = self.tape.next(lambda: self._statistics(x))
        y = (x - mean.view(per_channel)) / torch.sqrt(variance.view(per_channel) + self.eps)
        if self.weight is not None:
            y = y * self.weight.view(per_channel) + self.bias.view(per_channel)
        return y

    @staticmethod
    def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        channels = x.detach().transpose(0, 1).flatten(1)
        mean = channels.sum(1) / channels.shape[1]
        return mean, ((channels - mean[:, None]) ** 2).sum(1) / channels.shape[1]


class EmbeddingWithConstantPadding(nn.Module):
    """``padding_idx``: training never moves that row through a look-up, so looked up it is a constant."""

    def __init__(self, original: nn.Embedding) -> None:
        super().__init__()
        self.weight, self.index = original.weight, original.padding_idx
        self.padding = original.weight[self.index].detach().clone()

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.where((tokens == self.index)[..., None], self.padding, self.weight[tokens])


def with_constants(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], seed: int) -> tuple[Any, Tape]:
    """A copy of the model whose dropout masks (drawn from ``seed``) and batch statistics are recorded on a tape."""
    tape = Tape()
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Dropout) and child.training:
                setattr(module, name, TapedDropout(child.p, tape))
            elif isinstance(child, nn.modules.batchnorm._BatchNorm) and child.training:
                setattr(module, name, TapedBatchNorm(child, tape))
            elif isinstance(child, nn.Embedding) and child.padding_idx is not None:
                setattr(module, name, EmbeddingWithConstantPadding(child))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model(*args, **kwargs)
    return model, tape


# --- J and u ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explicit:
    """One batch in full. J (N, K, P), r = N u (N, K), losses (N,), unit of each row (N,)."""

    J: np.ndarray
    residual: np.ndarray
    losses: np.ndarray
    unit: np.ndarray

    @property
    def n(self) -> int:
        return self.J.shape[0]

    @property
    def units(self) -> list[int]:
        return sorted(set(self.unit.tolist()))

    def without(self, unit: int) -> Explicit:
        keep = self.unit != unit
        return Explicit(self.J[keep], self.residual[keep], self.losses[keep], self.unit[keep])

    def unit_gradients(self) -> np.ndarray:
        """g_i = J_i^T u_i, (n_units, P)."""
        return np.stack(
            [
                sum(self.J[row].T @ self.residual[row] for row in np.flatnonzero(self.unit == unit)) / self.n
                for unit in self.units
            ]
        )

    def weights(self) -> np.ndarray:
        return np.array([(self.unit == unit).sum() / self.n for unit in self.units])


def explicit(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    rows: Sequence[LabelledRow],
    loss: RowLoss,
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Explicit:
    """J, r and the losses of the ``rows``, with respect to the parameters ``names`` (None: the trainable ones)."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if names is not None:
        parameters = {name: parameters[name] for name in names}
    fixed, tape = with_constants(model, args, kwargs, seed)

    def f(chosen: Mapping[str, Tensor]) -> Tensor:
        tape.position = 0
        returned = functional_call(fixed, dict(chosen), args, dict(kwargs))
        outputs = returned if isinstance(returned, Tensor) else returned.logits
        return torch.stack([outputs[row.output].reshape(-1) for row in rows])

    # Forward-mode differentiation has no rule for the fused attention kernels.
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        # torch's own first use of forward-mode differentiation compiles a few rules with torch.jit.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        outputs = f(parameters).detach().double().numpy()
        columns = jacfwd(f)(parameters)
    J = np.concatenate([c.detach().double().flatten(2).numpy() for c in columns.values()], axis=2)
    return Explicit(
        J=J,
        residual=np.stack([loss.gradient(o, row.target) for o, row in zip(outputs, rows, strict=True)]),
        losses=np.array([loss.value(o, row.target) for o, row in zip(outputs, rows, strict=True)]),
        unit=np.array([row.unit for row in rows]),
    )


# --- the numbers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A value and the size of what was added and subtracted on the way to it: rounding errors are relative to that."""

    value: float
    scale: float


@dataclass(frozen=True)
class Spectrum:
    """Theta = J J^T of a batch: eigenvalues, share of the trace p and of the loss gradient gamma2, by mode."""

    eigenvalues: np.ndarray
    p: np.ndarray
    gamma2: np.ndarray


def spectrum(batch: Explicit) -> Spectrum:
    J = batch.J.reshape(-1, batch.J.shape[2])
    u = batch.residual.reshape(-1) / batch.n
    eigenvalues, q = np.linalg.eigh(J @ J.T)
    return Spectrum(eigenvalues, eigenvalues / eigenvalues.sum(), (q.T @ u) ** 2 / (u @ u))


def raw_components(batch: Explicit) -> dict[str, float]:
    """Without normalisation: chi_loss = ||u||^2, chi_net = Tr Theta, delta_loss = u^T Theta u."""
    J = batch.J.reshape(-1, batch.J.shape[2])
    u = batch.residual.reshape(-1) / batch.n
    theta = J @ J.T
    return {"chi_loss": float(u @ u), "chi_net": float(np.trace(theta)), "delta_loss": float(u @ theta @ u)}


def chi_pos(batch: Explicit) -> float:
    """sum_k gamma_k^2 p_k, from the eigenvectors: not the quotient by which the package finds it."""
    modes = spectrum(batch)
    return float((modes.gamma2 * modes.p).sum())


def u_statistic(batch: Explicit) -> Number:
    """sum over pairs i != j of <g_i, g_j>, divided by that of w_i w_j."""
    g, w = batch.unit_gradients(), batch.weights()
    products, weights = 0.0, 0.0
    for i in range(len(w)):
        for j in range(len(w)):
            if i != j:
                products += float(g[i] @ g[j])
                weights += w[i] * w[j]
    return Number(products / weights, float((np.linalg.norm(g, axis=1) ** 2).sum() + (g.sum(0) ** 2).sum()) / weights)


def one_batch(batch: Explicit, signs_of: int | None = None) -> dict[str, Number]:
    """Every float field of a Decomposition, normalised. Fields with a spread need three units or more.

    ``signs_of``: the seed of the random signs where products of pairs of units are not taken one by one.
    """
    raw = raw_components(batch)
    n, n_units = batch.n, len(batch.units)
    size = raw["chi_loss"] * raw["chi_net"]
    numbers = {
        "loss": Number(float(batch.losses.mean()), float(np.abs(batch.losses).mean())),
        "chi_loss": _plain(raw["chi_loss"] * n),
        "chi_net": _plain(raw["chi_net"] / n),
        "chi_pos": _plain(chi_pos(batch)),
        "delta_loss": _plain(raw["delta_loss"]),
        "chi_net_stderr": _plain(0.0),
        "chi_pos_stderr": _plain(0.0),
    }
    if n_units > 1:
        numbers["chi_net_population_stderr"] = Number(population_error(batch), raw["chi_net"] / n)
    if n_units < 2:
        return numbers
    U = u_statistic(batch)
    squared_weights = float((batch.weights() ** 2).sum())
    numbers["delta_loss_unbiased"] = U
    numbers["chi_pos_unbiased"] = Number(U.value / size, U.scale / size)
    if U.value > 0:
        noise = (raw["delta_loss"] - U.value) / squared_weights
        numbers["gradient_noise_scale"] = Number(
            noise / U.value, (raw["delta_loss"] + U.scale) / squared_weights / U.value * (1 + U.scale / U.value)
        )
    if n_units < 3:
        return numbers
    left_out = [batch.without(unit) for unit in batch.units]
    values = np.array([u_statistic(rest).value for rest in left_out])
    sizes = np.array([(c := raw_components(rest))["chi_loss"] * c["chi_net"] for rest in left_out])
    pairs = _pair_noise(batch, signs_of)
    numbers["delta_loss_unbiased_stderr"] = _stderr(values, pairs, n_units, U.scale)
    if sizes.all():  # else 0 / 0 without one of the units
        numbers["chi_pos_unbiased_stderr"] = _stderr(values / sizes, pairs / size**2, n_units, U.scale / size)
    return numbers


def two_batches(a: Explicit, b: Explicit, seed: int = 0) -> dict[str, Number]:
    """Every float field of the Decomposition of a against b, normalised, from the table of <g_Ai, g_Bj>."""
    raw_a, raw_b = raw_components(a), raw_components(b)
    chi_loss = math.sqrt(a.n * raw_a["chi_loss"] * b.n * raw_b["chi_loss"])
    chi_net = math.sqrt(raw_a["chi_net"] / a.n * raw_b["chi_net"] / b.n)
    table = a.unit_gradients() @ b.unit_gradients().T
    scale = math.sqrt(raw_a["delta_loss"] * raw_b["delta_loss"])
    value = Number(float(a.unit_gradients().sum(0) @ b.unit_gradients().sum(0)), scale)
    position = Number(value.value / (chi_loss * chi_net), scale / (chi_loss * chi_net))
    numbers = {
        "loss": Number(float(b.losses.mean()), float(np.abs(b.losses).mean())),
        "chi_loss": _plain(chi_loss),
        "chi_net": _plain(chi_net),
        "chi_pos": position,
        "delta_loss": value,
        "chi_net_stderr": _plain(0.0),
        "chi_pos_stderr": _plain(0.0),
    }
    n_a, n_b = table.shape
    if min(n_a, n_b) > 1:
        relative = [population_error(x) / (raw_components(x)["chi_net"] / x.n) for x in (a, b)]
        numbers["chi_net_population_stderr"] = Number(chi_net / 2 * math.hypot(*relative), chi_net)
    if min(n_a, n_b) < 2:
        return numbers

    def left_value(x: Explicit, y: Explicit) -> float:
        return float(x.unit_gradients().sum(0) @ y.unit_gradients().sum(0))

    def left_loss(x: Explicit, y: Explicit) -> float:
        return math.sqrt(float((x.residual**2).sum()) / x.n * float((y.residual**2).sum()) / y.n)

    shorter = [(a.without(i), b) for i in a.units], [(a, b.without(j)) for j in b.units]
    # Random signs sum up each row of the table; squares of such sums estimate the sum of its squares.
    signed = table @ _signs(n_b, seed)
    explained = (table.sum(1) ** 2).sum() / n_b + (table.sum(0) ** 2).sum() / n_a - table.sum() ** 2 / (n_a * n_b)
    interaction = max(0.0, float((signed**2).sum() - explained)) * n_a * n_b / ((n_a - 1) * (n_b - 1))
    size = float((np.abs(table).sum(1) ** 2).sum()) * n_b
    for name, divide in (("delta_loss_unbiased_stderr", False), ("chi_pos_unbiased_stderr", True)):
        jackknifes = [
            _jackknife(np.array([left_value(x, y) / (left_loss(x, y) * chi_net if divide else 1) for x, y in side]))
            for side in shorter
        ]
        unit = (chi_loss * chi_net) ** 2 if divide else 1
        variance = max(sum(jackknifes) - interaction / unit, interaction / unit)
        numbers[name] = Number(math.sqrt(variance), math.sqrt(size / unit))
    return numbers | {"delta_loss_unbiased": value, "chi_pos_unbiased": position}


def _plain(value: float) -> Number:
    return Number(value, abs(value))


def _stderr(left_out: np.ndarray, pairs: float, n: int, scale: float) -> Number:
    variance = _jackknife(left_out) - 2 * pairs / max(1, (n - 1) * (n - 2))
    return Number(math.sqrt(max(variance, 2 * pairs / (n * (n - 1)))), scale)


def _jackknife(left_out: np.ndarray) -> float:
    n = len(left_out)
    return float((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())


def population_error(batch: Explicit) -> float:
    """Standard error of chi_net over draws of the units: the spread of their traces over their share of the rows."""
    trace = [float((batch.J[batch.unit == unit] ** 2).sum()) for unit in batch.units]
    rows = [int((batch.unit == unit).sum()) for unit in batch.units]
    chi_net, n = sum(trace) / sum(rows), len(rows)
    squares = sum((t - chi_net * r) ** 2 for t, r in zip(trace, rows, strict=True))
    return math.sqrt(n / (n - 1) * squares) / sum(rows)


def _pair_noise(batch: Explicit, signs_of: int | None) -> float:
    """zeta_2 of docs/theory.md from its two moment equations, solved as a linear system."""
    g, w = batch.unit_gradients(), batch.weights()
    n = len(w)
    if n < 4:
        return 0.0
    scale = n * (n - 1) / (1 - float((w**2).sum()))
    if signs_of is None:
        squares = sum(float(g[i] @ g[j]) ** 2 for i in range(n) for j in range(i))
    else:
        signs = _signs(n, signs_of)
        running = [sum((signs[j] * g[j] for j in range(i)), np.zeros_like(g[0])) for i in range(n)]
        squares = sum(float(g[i] @ running[i]) ** 2 for i in range(n))
    mean_square = 2 * squares * scale**2 / (n * (n - 1))
    row_means = np.array([sum(scale * g[i] @ g[j] for j in range(n) if j != i) / (n - 1) for i in range(n)])
    left = np.array([[2 * (1 - 2 / n), 1 - 2 / (n * (n - 1))], [(n - 2) ** 2 / (n - 1) ** 2, (n - 2) / (n - 1) ** 2]])
    right = np.array([mean_square - row_means.mean() ** 2, row_means.var(ddof=1)])
    return max(0.0, float(np.linalg.solve(left, right)[1]))


def _signs(n: int, seed: int) -> np.ndarray:
    """The signs that ``decompose(seed=seed)`` draws: part of the definition of its error bar, not of what is tested."""
    from spectral_reach.estimators.subset import generator

    random = generator(seed, "signs", torch.device("cpu"))
    return (torch.randint(0, 2, (n,), generator=random) * 2 - 1).double().numpy()
