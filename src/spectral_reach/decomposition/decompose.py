"""``sr.decompose``: one measurement of a model on a batch, or on a pair of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from spectral_reach.decomposition.in_parts import one_batch_in_parts, two_batches_in_parts
from spectral_reach.decomposition.in_step import in_step
from spectral_reach.decomposition.memory import plan, told
from spectral_reach.decomposition.one_batch import one_batch
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.decomposition.two_batches import two_batches
from spectral_reach.estimators import EstimatorOptions, check_name
from spectral_reach.measured.arguments import checked_model, integer_from, seed_from
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import Linearisation, linearise
from spectral_reach.measured.losses import Loss, LossFunction, resolve_loss
from spectral_reach.measured.micro_batches import MicroBatches
from spectral_reach.measured.naming import about
from spectral_reach.measured.parameters import Selection, select_parameters


def decompose(
    model: nn.Module,
    batch: Any,
    *,
    loss: Loss = "cross_entropy",
    against: Any = None,
    estimator: str = "auto",
    probes: int = 1,
    units: int | None = None,
    noise_units: int | None = None,
    parameters: Selection = None,
    seed: int = 0,
    memory_budget: int = 2**28,
    micro_batch: int | None = None,
    checkpointing: bool = False,
    offload: bool = False,
    max_memory: int | None = None,
) -> Decomposition:
    """Take the linearised loss change of a gradient step apart: delta_loss = chi_loss * chi_net * chi_pos.

    Nothing is changed by looking: parameters, ``.grad``, buffers, hooks, training flags and random generators are
    afterwards as before. The model is measured in the mode it is in: dropout draws one mask for the measurement,
    batch normalisation in training mode uses this batch's statistics as constants.

    Args:
        model: any module whose output is a tensor or has a tensor ``.logits``.
        batch: ``(inputs, targets)`` of B units, outputs = ``model(inputs)``; or a mapping passed by keyword with
            ``labels``, where causal language models are shifted as Hugging Face does. Class indices (B, ...) go with
            outputs (B, ..., K) or, as PyTorch has images, (B, K, ...), and -100 means no label: each labelled index
            is a sample. Regression targets have the outputs' shape (B, ..., K), each row of K a sample. Anything else
            that shares the leading axis is one sample a unit.
        loss: ``"cross_entropy"``, ``"mse"`` (half the squared error, summed over outputs) or a callable
            ``(outputs, targets) -> scalar``, a mean over samples; a callable gets the labelled rows only.
        against: a second batch B, an independent draw: ``batch`` makes the step and B feels it. A unit that is in both,
            other than by chance, makes the noise-corrected values too large.
        estimator: of chi_net: ``"exact"`` (every output direction), ``"per_unit"`` (an independent random probe for
            each unit, in one backward pass), ``"batch"`` (random probes over the whole batch) or ``"auto"``: exact
            where there are at most 1,024 output directions, else per unit, or batch where units cannot be told apart.
        probes: random probes; two or more give a standard error for this batch.
        units: estimate chi_net from this many random units of each batch; None for all.
        noise_units: take the noise-corrected values from the products of this many random units' gradients with those
            of all others, 2 or more, for less work and a larger error; None for all. With ``against`` always all.
        parameters: names, modules, parameters or a predicate ``(name, parameter) -> bool``; frozen ones never count.
        seed: of the probes, the choice of units and the dropout masks.
        memory_budget: bytes for batched vector-Jacobian products; changes speed, not results.
        micro_batch: units a forward and backward pass, for batches whose activations do not fit into memory; None for
            all at once. No number depends on it. With ``noise_units=None`` the errors of noise-corrected values come
            from the products of 8 units, as in a training step.
        checkpointing: leave the model's activation checkpointing on: the least memory, with ``micro_batch=1``.
        offload: keep sums of gradients in the host's memory, not beside the parameters; with either of the others.
        max_memory: bytes that may be in use on the model's device (on a CPU: by this process), weights included: as
            many units at a time as fit are taken, or as ``micro_batch`` says if these fit.

    Returns:
        The normalised components, errors and counts; see ``Decomposition``. What is undefined is NaN with a reason.

    Raises:
        ValueError, TypeError: what was got, what was expected and what to do. A batch without any label raises
            ``NoLabelledRowsError``, values that are not finite ``NotFiniteError``; both are ValueErrors.

    Example:
        >>> import torch, spectral_reach as sr
        >>> model = torch.nn.Linear(4, 3)
        >>> result = sr.decompose(model, (torch.randn(8, 4), torch.randint(0, 3, (8,))))
        >>> 0 <= result.chi_pos <= 1
        True
    """
    prepared = _prepare(model, loss, estimator, probes, units, noise_units, parameters, seed, memory_budget)
    # Probes over the whole batch are what a model takes that needs checkpointing to fit into memory.
    checkpointed = checkpointing or estimator == "batch"
    if micro_batch is not None or max_memory is not None:
        size = None if micro_batch is None else integer_from(1, "micro_batch", micro_batch)
        limit = None if max_memory is None else integer_from(1, "max_memory", max_memory)
        options = replace(prepared.options, offload=bool(offload))
        with leaving_no_trace(prepared.model):
            a = prepared.micro_batches(batch, checkpointed=checkpointed)
            if against is None:
                (a,), options = _sized({"batch": a}, size, limit, estimator, options)
                return one_batch_in_parts(a, estimator, options)
            with about("against"):
                b = prepared.micro_batches(against, checkpointed=checkpointed)
            (a, b), options = _sized({"batch": a, "against": b}, size, limit, estimator, options)
            return two_batches_in_parts(a, b, estimator, options)
    if offload:
        raise ValueError(
            "offload=True without micro_batch or max_memory has nothing to keep elsewhere: a whole batch takes no sums "
            "of gradients; expected one of them beside it"
        )
    with leaving_no_trace(prepared.model):
        first = prepared.linearise(batch, checkpointed=checkpointed)
        if against is None:
            return one_batch(first, estimator, prepared.options)
        with about("against"):
            second = prepared.linearise(against, checkpointed=checkpointed)
        return two_batches(first, second, estimator, prepared.options)


def decompose_in_step(
    model: nn.Module,
    batch: Any,
    outputs: Any,
    step_loss: Any,
    finished: Callable[[Decomposition], None],
    *,
    loss: Loss = "cross_entropy",
    estimator: str = "auto",
    probes: int = 1,
    units: int | None = None,
    noise_units: int | None = None,
    parameters: Selection = None,
    seed: int = 0,
    memory_budget: int = 2**28,
) -> bool:
    """``decompose`` between the forward and the backward pass of a training step, which it shares.

    Args:
        model, batch, loss, estimator, probes, units, parameters, seed, memory_budget: as in ``decompose``.
        noise_units: as in ``sr.Tracker``.
        outputs: what the model has returned for the batch.
        step_loss: the scalar whose ``backward()`` the step is about to call.
        finished: called with the result at the end of that backward pass.

    Returns:
        Whether the step can be shared; False where it needs passes of its own, and nothing has been done.

    Raises:
        ValueError, TypeError: as in ``decompose``, or ``step_loss`` is not a loss of these outputs alone.
    """
    prepared = _prepare(model, loss, estimator, probes, units, noise_units, parameters, seed, memory_budget)
    # Hooks of the caller's, which a measurement suspends, may change the gradients that the step sums up.
    sums = not any(parameter._backward_hooks for parameter in prepared.parameters.values())
    with leaving_no_trace(prepared.model):
        linearisation = prepared.linearise(batch, returned=outputs)
        return in_step(linearisation, step_loss, estimator, prepared.options, finished, sums=sums)


def _sized(
    batches: Mapping[str, MicroBatches],
    size: int | None,
    limit: int | None,
    estimator: str,
    options: EstimatorOptions,
) -> tuple[list[MicroBatches], EstimatorOptions]:
    """The batches in parts of so many units, or of as many as fit.

    Raises:
        ValueError: they do not fit.
    """
    if limit is not None:
        planned = plan(batches, limit, estimator, options)
        if size is not None and size > planned.micro_batch:
            raise ValueError(
                f"micro_batch={size} does not fit into max_memory, {told(limit)}; expected {planned.micro_batch} or "
                f"less: with it the measurement takes {planned}"
            )
        size = size or planned.micro_batch
        options = replace(options, room=planned.room, memory_budget=planned.memory_budget)
    assert size is not None
    return [batch.in_parts_of(size) for batch in batches.values()], options


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """A caller's arguments, checked."""

    model: nn.Module
    loss: LossFunction
    parameters: Mapping[str, nn.Parameter]
    options: EstimatorOptions

    def micro_batches(self, batch: Any, *, checkpointed: bool) -> MicroBatches:
        """The batch, one unit at a time."""
        return MicroBatches(
            self.model,
            batch,
            self.loss,
            self.parameters,
            size=1,
            seed=self.options.seed,
            checkpointed=checkpointed,
        )

    def linearise(self, batch: Any, *, returned: Any = None, checkpointed: bool = False) -> Linearisation:
        return linearise(
            self.model,
            batch,
            self.loss,
            self.parameters,
            seed=self.options.seed,
            returned=returned,
            checkpointed=checkpointed,
        )


def _prepare(
    model: nn.Module,
    loss: Loss,
    estimator: str,
    probes: int,
    units: int | None,
    noise_units: int | None,
    parameters: Selection,
    seed: int,
    memory_budget: int,
) -> _Prepared:
    model = checked_model(model)
    options = EstimatorOptions(
        probes=integer_from(1, "probes", probes),
        units=None if units is None else integer_from(1, "units", units),
        noise_units=None if noise_units is None else integer_from(2, "noise_units", noise_units),
        seed=seed_from(seed),
        memory_budget=integer_from(1, "memory_budget", memory_budget),
    )
    check_name(estimator)
    loss_function = resolve_loss(loss)
    return _Prepared(model=model, loss=loss_function, parameters=select_parameters(model, parameters), options=options)
