"""Preference pairs: a causal language model as a map to the log-probabilities of two completions, and DPO on them.

Source of the loss: Rafailov et al., "Direct Preference Optimization", arXiv 2305.18290, equation 7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectral_reach.checkpoints.placing import placed
from spectral_reach.measured.batch import output_tensor
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.rows import IGNORE_INDEX

DEFAULT_BETA = 0.1

_TOKENS_AT_ONCE = 4096


def is_preference(batch: Any) -> bool:
    """Whether a batch holds pairs: a mapping with ``input_ids`` and ``labels`` (B, 2, T)."""
    if not isinstance(batch, Mapping):
        return False
    ids, labels = batch.get("input_ids"), batch.get("labels")
    return isinstance(ids, Tensor) and isinstance(labels, Tensor) and ids.ndim == 3 and ids.shape[1] == 2


class PreferenceModel(nn.Module):
    """log p(chosen | prompt) and log p(rejected | prompt), in nats, summed over the labelled tokens, (B, 2).

    A pair is one sample with K = 2 outputs. What is measured is then the kernel of these log-probabilities, not that
    of logits: chi_net is their squared gradients, and is not comparable with that of language modelling.

    Args:
        network: a causal language model of transformers. Its parameters are here named ``network.…``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, pairs: Mapping[str, Tensor]) -> Tensor:
        """``pairs``: ``input_ids``, ``attention_mask``, ``labels`` (B, 2, T), -100 where there is no label."""
        # Both completions of a pair stay together: (B, 2, T) -> (2B, T), so that units can be told apart.
        rows = {name: values.flatten(0, 1) for name, values in pairs.items()}
        labels = rows.pop("labels")[:, 1:]
        logits = output_tensor(self.network(**rows))[:, :-1]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # Zero where there is no label.
        log_p = -F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
        ).view_as(labels)
        return log_p.sum(1).view(-1, 2)


def log_probabilities(reference: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The targets of DPO: what ``PreferenceModel`` gives for a reference model, (B, 2) on the CPU, without a graph.

    Pairs are taken a few at a time. The model is left as it was; dropout is off.
    """
    model = PreferenceModel(reference)
    count = max(1, _TOKENS_AT_ONCE // (2 * batch["input_ids"].shape[2]))
    was_training = [(module, module.training) for module in reference.modules()]
    try:
        reference.eval()
        with leaving_no_trace(reference), torch.no_grad():
            parts = [
                model(placed({name: values[begin : begin + count] for name, values in batch.items()}, reference)).cpu()
                for begin in range(0, len(batch["input_ids"]), count)
            ]
    finally:
        for module, training in was_training:
            module.training = training
    return torch.cat(parts)


@dataclass(frozen=True, slots=True)
class DPO:
    """-log sigmoid(beta ((f_c - r_c) - (f_r - r_r))), mean over pairs; f of the model, r of the reference.

    Called with outputs and targets (N, 2).
    """

    beta: float

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar."""
        gain = outputs - targets.to(outputs.dtype)
        return -F.logsigmoid(self.beta * (gain[:, 0] - gain[:, 1])).mean()
