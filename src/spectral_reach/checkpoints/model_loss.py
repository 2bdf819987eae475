"""The loss that a network of transformers returns itself, as a mean over samples of its outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.placing import placed
from spectral_reach.measured.batch import output_tensor
from spectral_reach.measured.causal_shift import labels_are_shifted
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.losses import Loss, resolve_loss
from spectral_reach.measured.rows import IGNORE_INDEX, labelled_rows


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples and outputs of (f - y)^2: transformers has no half in it, and divides by K."""
    return F.mse_loss(outputs, targets.to(outputs.dtype))


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples and classes, each class by itself, in nats; targets are 0 to 1."""
    return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))


def own_loss(kind: Kind, network: nn.Module, batch: Any) -> tuple[str, Loss]:
    """The name and the function of the loss that a model of this kind and config has, checked against its own.

    The check takes the unit with the fewest labels and that with the most, so that it sees how the model weighs them.

    Raises:
        ValueError: the batch goes without labels, the model returns no loss, or another one.
    """
    name, loss = _by_config(kind, network, batch)
    _check(name, loss, network, batch)
    return name, loss


def _by_config(kind: Kind, network: nn.Module, batch: Any) -> tuple[str, Loss]:
    if not isinstance(batch, Mapping) or not isinstance(batch.get("labels"), Tensor):
        raise ValueError(
            "the model's own loss needs a batch that is a mapping with 'labels'; name a loss for (inputs, targets)"
        )
    if kind in (Kind.CAUSAL_LM, Kind.MASKED_LM):
        return "cross_entropy", "cross_entropy"
    config: Any = getattr(network, "config", None)
    problem = getattr(config, "problem_type", None)
    if problem is None:
        # As transformers decides it from the first labels that it meets.
        if getattr(config, "num_labels", None) == 1:
            problem = "regression"
        else:
            is_real = batch["labels"].dtype.is_floating_point
            problem = "multi_label_classification" if is_real else "single_label_classification"
    if problem == "regression":
        return "mean_squared_error", mean_squared_error
    if problem == "multi_label_classification":
        return "binary_cross_entropy", binary_cross_entropy
    return "cross_entropy", "cross_entropy"


@torch.no_grad()
def _check(name: str, loss: Loss, network: nn.Module, batch: Mapping[str, Any]) -> None:
    part = placed(_fewest_and_most(batch), network)
    with leaving_no_trace(network), torch.no_grad():
        returned = network(**part)
    own = returned.get("loss") if isinstance(returned, Mapping) else getattr(returned, "loss", None)
    if not isinstance(own, Tensor) or own.numel() != 1:
        raise ValueError(
            f"{type(network).__name__} returns no loss of its own for these labels; name a loss, for example "
            "cross_entropy"
        )
    outputs = output_tensor(returned)
    shift = labels_are_shifted(network, returned, outputs, part["labels"])
    rows = labelled_rows(outputs, part["labels"], causal_shift=shift)
    ours = float(resolve_loss(loss)(rows.outputs.to(torch.promote_types(outputs.dtype, torch.float32)), rows.targets))
    theirs = float(own)
    if not math.isfinite(theirs) and not math.isfinite(ours):
        return  # A model that has diverged: told by what measures it.
    # Language models take the logits to float32 first; other losses are rounded as the outputs are.
    rounded = own.dtype if name == "cross_entropy" else outputs.dtype
    tolerance = max(1e-4, 4 * torch.finfo(rounded).eps) * max(1.0, abs(ours))
    if not abs(ours - theirs) <= tolerance:
        raise ValueError(
            f"{type(network).__name__} returns a loss of {theirs:.6g} and the mean of {name} over labelled samples is "
            f"{ours:.6g}: its own has other terms (balanced experts, label smoothing, weights), which are no function "
            f"of outputs and labels alone; name the loss that is meant, for example {name}"
        )


def _fewest_and_most(batch: Mapping[str, Any]) -> dict[str, Any]:
    labels = batch["labels"]
    units = len(labels)
    if labels.dtype.is_floating_point:
        chosen = torch.arange(min(2, units))
    else:
        # The first token of a causal model is never told from others, whatever its label is.
        counts = (labels[:, 1:] if labels.ndim > 1 else labels.unsqueeze(1)).ne(IGNORE_INDEX).flatten(1).sum(1)
        order = torch.argsort(counts, stable=True)
        order = order[counts[order] > 0]
        if len(order) == 0:
            raise ValueError("no unit of the batch carries a label; expected a label or more")
        chosen = torch.unique(order[[0, -1]])
    return {
        name: value[chosen] if isinstance(value, Tensor) and value.ndim and len(value) == units else value
        for name, value in batch.items()
    }
