"""Are the labels of a mapping shifted by one position against the outputs, as in causal language models?

Hugging Face classes shift inside their loss, and which ones do is no public property. So the model is asked: it
returns its own loss beside its logits, and the alignment is the one whose cross entropy equals that loss. Only where
that says nothing (no loss returned, or one with extra terms) does the class name decide; where no loss is returned
that of any module inside counts, for a wrapper that hands on the logits alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectral_reach.measured.rows import IGNORE_INDEX


def labels_are_shifted(model: nn.Module, returned: Any, outputs: Tensor, labels: Tensor) -> bool:
    """True where the output at position t belongs to the label at position t + 1.

    ``outputs`` (B, T, K), ``labels`` (B, T) of class indices; any other shapes are never shifted.
    """
    if labels.dtype.is_floating_point or outputs.ndim != 3 or outputs.shape[:2] != labels.shape:
        return False
    own_loss = returned.get("loss") if isinstance(returned, dict) else getattr(returned, "loss", None)
    if not isinstance(own_loss, Tensor) or own_loss.numel() != 1:
        return any(map(_is_named_causal, model.modules()))
    declared = _is_named_causal(model)
    if labels.max() >= outputs.shape[-1]:
        return declared
    own = float(own_loss.detach())
    scale = max(1.0, abs(own))
    deviation = {shifted: abs(_cross_entropy(outputs, labels, shifted) - own) for shifted in (False, True)}
    if deviation[declared] <= 8 * torch.finfo(own_loss.dtype).eps * scale:
        return declared
    # The closer one, not the first that is close: at initialisation all logits and so both losses are nearly equal.
    closer = not declared if deviation[not declared] < deviation[declared] else declared
    return closer if deviation[closer] <= 1e-3 * scale else declared


def _is_named_causal(module: nn.Module) -> bool:
    name = type(module).__name__
    return "ForCausalLM" in name or "LMHeadModel" in name


@torch.no_grad()
def _cross_entropy(outputs: Tensor, labels: Tensor, shifted: bool) -> float:
    if shifted:
        outputs, labels = outputs[:, :-1], labels[:, 1:]
    value = F.cross_entropy(outputs.flatten(0, 1).float(), labels.flatten().long(), ignore_index=IGNORE_INDEX)
    return float(value)
