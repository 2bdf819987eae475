r"""Maximal update parametrisation (muP) of transformers: what makes weights and learning rates hold at any width.

Yang et al. 2022, "Tensor Programs V", Table 8, whose input and output weights can be tied. With r = width / base width:

| parameters                                   | initial variance | multiplied with | AdamW's rate | SGD's rate |
|----------------------------------------------|------------------|-----------------|--------------|------------|
| hidden matrices (both sides grow with width) | s^2 / r          | 1               | 1 / r        | 1          |
| embeddings, norms, biases (one side grows)   | s^2              | 1               | 1            | r          |
| readout W                                    | s^2              | 1 / r           | 1            | r          |
| readout bias (no side grows)                 | s^2              | 1               | 1            | 1          |

s is the standard deviation that transformers gives every width (0.02; biases are 0, norms 1), so that at r = 1 a model
in muP is the one in standard parametrisation, weight for weight. Attention logits are q . k / sqrt(d) for heads of the
base's width d_0, and q . k sqrt(d_0) / d where heads grow: queries and keys line up in training, so that their product
grows with d and not with sqrt(d).

No layer is replaced. The readout stays a plain linear layer, W (h / r) + b, whose input a hook divides by r; the hook
is a module-level function with a float, so that copies, pickles and compiled models keep it. State dictionaries hold
neither the hook nor the attention's scale: ``model.config`` says both, and ``restore_multipliers`` puts them back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from spectral_reach.studies.config import as_mapping, check

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import Tensor, nn
    from transformers import PreTrainedModel

STANDARD = "standard"
MUP = "mup"
PARAMETRISATIONS = (STANDARD, MUP)

_OUTPUT = "mup_output_multiplier"
_ATTENTION = "mup_attention_scaling"


class Parametrised(Protocol):
    """The settings of a transformer that a parametrisation looks at; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def width(self) -> int:
        """Of the residual stream."""

    @property
    def heads(self) -> int:
        """Attention heads in every layer."""

    @property
    def parametrisation(self) -> str:
        """One of ``PARAMETRISATIONS``."""

    @property
    def base_width(self) -> int:
        """Where muP is the standard parametrisation; 0 in standard parametrisation."""

    @property
    def base_head_width(self) -> int:
        """Width of a head there; 0 for heads as wide as here, and in standard parametrisation."""


def check_parametrisation(config: Parametrised) -> None:
    """Refuse what is neither standard parametrisation nor muP with its base.

    Raises:
        ValueError: "Config.name is value; expected ...".
    """
    check(config, "parametrisation", config.parametrisation in PARAMETRISATIONS, " or ".join(PARAMETRISATIONS))
    if config.parametrisation == MUP:
        wanted = "at least 1 in muP: the width whose rates the others take over"
        check(config, "base_width", config.base_width >= 1, wanted)
        check(config, "base_head_width", config.base_head_width >= 0, "at least 0")
    else:
        for name in ("base_width", "base_head_width"):
            check(config, name, getattr(config, name) == 0, "0 in standard parametrisation, which has no base")


def width_ratio(config: Parametrised) -> float:
    """r, by which the model is wider than its base; 1 in standard parametrisation."""
    return config.width / config.base_width if config.parametrisation == MUP else 1.0


def member(of_width: Callable[[int], DataclassInstance], width: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the member of a family with this width, with ``options`` in place of what it derives.

    In muP width is all that grows: the depth is that of the base, and heads are as many if ``options`` say how many,
    else as wide as at the base.
    """
    settings = as_mapping(of_width(width))
    base_width, heads = options.get("base_width"), options.get("heads")
    # What is missing or impossible here is told, by its name, when the configuration is made.
    if options.get("parametrisation") == MUP and type(base_width) is int and base_width >= 1:
        settings["depth"] = as_mapping(of_width(base_width))["depth"]
        if type(heads) is int and heads >= 1:
            settings["base_head_width"] = base_width // heads
    return {**settings, **options}


def parametrise(model: PreTrainedModel, readout: nn.Linear, config: Parametrised) -> None:
    """Turn a model with transformers' initial weights into one in the parametrisation of ``config``, in place."""
    import torch

    if config.parametrisation == STANDARD:
        return
    ratio = width_ratio(config)
    head_width = config.width // config.heads
    growth = head_width / (config.base_head_width or head_width)
    setattr(model.config, _OUTPUT, 1 / ratio)
    setattr(model.config, _ATTENTION, head_width**-0.5 / math.sqrt(growth))
    if ratio != 1:
        with torch.no_grad():
            for matrix in _hidden(model, readout).values():
                matrix.mul_(1 / math.sqrt(ratio))
    restore_multipliers(model, readout)


def restore_multipliers(model: PreTrainedModel, readout: nn.Linear) -> None:
    """Multiply as ``model.config`` says a model in muP does; nothing for any other model, or where all is 1."""
    output = getattr(model.config, _OUTPUT, 1.0)
    scaling = getattr(model.config, _ATTENTION, None)
    if output != 1:
        readout.register_forward_pre_hook(partial(_multiplied, output))
    if scaling is not None:
        for module in model.modules():
            if hasattr(module, "scaling"):
                module.scaling = scaling


def rate_factors(
    model: PreTrainedModel, readout: nn.Linear, config: Parametrised, optimiser: str
) -> Mapping[str, float]:
    """What muP multiplies the learning rate of a parameter with, by its name; 1 for those not named.

    AdamW's decay of a step is rate x weight decay: to decay all parameters at the same pace at every width, divide the
    weight decay by the factor.

    Raises:
        ValueError: ``optimiser`` is neither ``"adamw"`` nor ``"sgd"``.
    """
    if optimiser not in ("adamw", "sgd"):
        raise ValueError(f"optimiser is {optimiser!r}; expected 'adamw' or 'sgd', whose rates muP knows.")
    ratio = width_ratio(config)
    if ratio == 1:
        return {}
    hidden = _hidden(model, readout)
    if optimiser == "adamw":
        return dict.fromkeys(hidden, 1 / ratio)
    return {
        name: ratio
        for name, parameter in model.named_parameters()
        if name not in hidden and parameter is not readout.bias
    }


def _hidden(model: PreTrainedModel, readout: nn.Linear) -> dict[str, Tensor]:
    """Matrices whose rows and columns both grow with the width, by name: of all linear layers but the readout."""
    from torch import nn

    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not readout
    }


def _multiplied(factor: float, module: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
    """A hook before a layer's forward pass: its one input, multiplied."""
    (hidden,) = arguments
    return (hidden * factor,)
