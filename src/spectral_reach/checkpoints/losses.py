"""The loss that a user names, for a network and a batch: what ``sr.decompose`` is called with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.model_loss import own_loss
from spectral_reach.checkpoints.named_function import import_function
from spectral_reach.checkpoints.preference import DPO, PreferenceModel, is_preference, log_probabilities
from spectral_reach.measured.losses import Loss

NAMES = ("model", "cross_entropy", "mse", "dpo")
"""Besides ``module:function``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedLoss:
    """Arguments of ``sr.decompose``.

    Attributes:
        name: of the function: ``"model"`` and ``"cross_entropy"`` lead to equal numbers and one name.
        loss: as ``sr.decompose`` takes it.
        network: the model itself, or around it what maps preference pairs to log-probabilities. A selection of
            parameters by name is made on the model itself: ``select_parameters(model, names).values()``.
        batch: the batch that was given, or for preference pairs ``(inputs, log-probabilities of the reference)``.
    """

    name: str
    loss: Loss
    network: nn.Module
    batch: Any


def resolve(
    name: str, *, kind: Kind, network: nn.Module, batch: Any, reference: nn.Module | Tensor | None, beta: float
) -> ResolvedLoss:
    """The loss called ``name``.

    Args:
        name: ``"model"``, the network's own, which is checked against what it returns; ``"cross_entropy"`` and
            ``"mse"`` as in ``sr.decompose``; ``"dpo"``; or ``"module:function"``, a function
            ``(outputs, targets) -> scalar``, which for preference pairs gets the log-probabilities of the model and
            of the reference, (N, 2) each.
        kind: of the network.
        network: a model of transformers.
        batch: as ``load_batch`` makes it, or a ready one.
        reference: for preference pairs, the model that they are compared with, or its ``log_probabilities`` for this
            batch, (B, 2): computed once they serve for all revisions.
        beta: of DPO.

    Raises:
        ValueError, TypeError: the name, or that it does not go with the kind, the batch or the network.
    """
    check_loss(name, kind=kind, batch=batch, has_reference=reference is not None, beta=beta)
    if is_preference(batch):
        assert reference is not None
        return _of_pairs(name, network, batch, reference, beta)
    if name == "model":
        resolved, loss = own_loss(kind, network, batch)
        return ResolvedLoss(name=resolved, loss=loss, network=network, batch=batch)
    return ResolvedLoss(name=name, loss=import_function(name) if ":" in name else name, network=network, batch=batch)


def check_loss(name: str, *, kind: Kind, batch: Any, has_reference: bool, beta: float) -> None:
    """Find out without the network what ``resolve`` would say of the name, the kind and the batch.

    Raises:
        ValueError: they do not go together.
    """
    if name not in NAMES and ":" not in name:
        raise ValueError(f"the loss is {name!r}; expected one of {', '.join(NAMES)}, or MODULE:FUNCTION")
    if not is_preference(batch):
        if name == "dpo":
            raise ValueError(
                "loss 'dpo' is for preference pairs and the batch holds none; expected data with the columns chosen "
                "and rejected, or another loss"
            )
        labels = batch.get("labels") if isinstance(batch, Mapping) else None
        if name == "cross_entropy" and isinstance(labels, Tensor) and labels.dtype.is_floating_point:
            raise ValueError("the labels are real numbers and the loss is 'cross_entropy'; expected model or mse")
        return
    if name in NAMES and name != "dpo":
        raise ValueError(f"the batch holds preference pairs and the loss is {name!r}; expected dpo or MODULE:FUNCTION")
    if kind is not Kind.CAUSAL_LM:
        raise ValueError(f"the batch holds preference pairs and the model is a {kind} one; expected {Kind.CAUSAL_LM}")
    if not has_reference:
        raise ValueError(
            "a preference loss compares with a reference model and none is named; give --reference, the model that "
            "the preference training started from"
        )
    if not beta > 0:
        raise ValueError(f"beta is {beta}; expected more than 0")


def _of_pairs(name: str, network: nn.Module, batch: Any, reference: nn.Module | Tensor, beta: float) -> ResolvedLoss:
    targets = reference if isinstance(reference, Tensor) else log_probabilities(reference, batch)
    pairs = len(batch["input_ids"])
    if targets.shape != (pairs, 2):
        raise ValueError(
            f"the reference's log-probabilities have shape {tuple(targets.shape)}; expected ({pairs}, 2), those of "
            "this batch"
        )
    is_dpo = name == "dpo"
    return ResolvedLoss(
        name=f"dpo (beta {beta:g})" if is_dpo else name,
        loss=DPO(beta) if is_dpo else import_function(name),
        network=PreferenceModel(network),
        batch=(dict(batch), targets),
    )
