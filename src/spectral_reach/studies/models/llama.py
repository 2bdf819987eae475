"""Llama language models with random weights, from tiny to small: width, depth, heads and MLP grow together.

Architecture: transformers' ``LlamaForCausalLM`` (Touvron et al. 2023): rotary positions, RMSNorm, SwiGLU,
embeddings untied unless asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from spectral_reach.studies.config import check, check_types, from_mapping
from spectral_reach.studies.models.parametrisation import (
    STANDARD,
    check_parametrisation,
    member,
    parametrise,
    rate_factors,
)
from spectral_reach.studies.models.registry import check_dimensions, check_shape, register

if TYPE_CHECKING:
    from torch import nn
    from transformers import LlamaForCausalLM, PreTrainedModel

_HEAD_WIDTH = 16
_WIDTH_PER_LAYER = 32
_MLP_MULTIPLE = 8

_DIMENSIONS = ("vocabulary", "context")
_READS = "A Llama reads sequences of tokens"
_WHERE = "The model family 'llama'"


@register("llama")
@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaConfig:
    """The shape of one Llama.

    Attributes:
        vocabulary: tokens that it knows, and outputs K per token.
        context: T, the longest sequence.
        width: of the residual stream; a multiple of twice the number of heads (rotary positions turn pairs).
        depth: number of layers.
        heads: attention heads in every layer.
        mlp_width: hidden width of the gated MLP.
        tied: whether the readout is the transposed token embedding.
        key_value_heads: of every layer, each shared by as many of the heads; 0 for one each.
        parametrisation: ``standard``, or ``mup``, maximal update parametrisation (``models.parametrisation``).
        base_width: in muP the width where it is the standard parametrisation; else 0.
        base_head_width: in muP the width of a head there, 0 for heads as wide as here; else 0.
    """

    vocabulary: int
    context: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    tied: bool = False
    key_value_heads: int = 0
    parametrisation: str = STANDARD
    base_width: int = 0
    base_head_width: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("vocabulary", "context", "width", "depth", "heads", "mlp_width"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "width", self.width % (2 * self.heads) == 0, f"a multiple of 2 x {self.heads} heads")
        check(self, "key_value_heads", self.key_value_heads >= 0, "at least 0")
        shared = self.key_value_heads == 0 or self.heads % self.key_value_heads == 0
        check(self, "key_value_heads", shared, f"a divisor of the {self.heads} heads, or 0")
        check_parametrisation(self)

    @property
    def dimensions(self) -> Mapping[str, int]:
        """Vocabulary and context, those of the data."""
        return {"vocabulary": self.vocabulary, "context": self.context}

    @property
    def tokens_per_unit(self) -> int:
        """T."""
        return self.context

    @property
    def parameters(self) -> int:
        """P: every parameter, counted from the shape."""
        return self.parameters_without_embeddings + self.readout_parameters * (1 if self.tied else 2)

    @property
    def readout_parameters(self) -> int:
        """K x width, as many as the token embedding has."""
        return self.vocabulary * self.width

    @property
    def parameters_without_embeddings(self) -> int:
        """P without the token embedding and the readout: the layers and the last norm."""
        shared = (self.key_value_heads or self.heads) / self.heads
        attention = round((2 + 2 * shared) * self.width**2)
        mlp = 3 * self.width * self.mlp_width
        norms = 2 * self.width
        return self.depth * (attention + mlp + norms) + self.width

    def build(self, seed: int) -> LlamaForCausalLM:
        """The model in float32 with weights drawn from ``seed`` alone; the global generator stays as is."""
        import torch
        from transformers import LlamaConfig as Architecture
        from transformers import LlamaForCausalLM

        architecture: dict[str, Any] = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.mlp_width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads or self.heads,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": self.tied,
            "use_cache": False,
            "attn_implementation": "sdpa",
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(Architecture(**architecture))
        parametrise(model, self.readout(model), self)
        return model

    def readout(self, model: PreTrainedModel) -> nn.Linear:
        """The language-model head."""
        head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return head

    def rate_factors(self, model: PreTrainedModel, optimiser: str) -> Mapping[str, float]:
        """One rate for all in standard parametrisation; else those of muP."""
        return rate_factors(model, self.readout(model), self, optimiser)

    @classmethod
    def of_width(cls, width: int, dimensions: Mapping[str, int], options: Mapping[str, Any]) -> LlamaConfig:
        """``llama(width)`` with ``options`` in place of what it derives; in muP as deep as at ``base_width``."""
        check_dimensions(dimensions, _DIMENSIONS, _READS)
        check_shape(options, dimensions, _WHERE)
        return from_mapping(cls, member(partial(llama, **dimensions), width, options), _WHERE)

    @classmethod
    def of_shape(cls, shape: Mapping[str, Any], dimensions: Mapping[str, int]) -> LlamaConfig:
        """The Llama with these settings, besides vocabulary and context."""
        check_dimensions(dimensions, _DIMENSIONS, _READS)
        check_shape(shape, dimensions, _WHERE)
        return from_mapping(cls, {**dimensions, **shape}, _WHERE)


def llama(width: int, *, vocabulary: int, context: int) -> LlamaConfig:
    """The member of the family with this width.

    One number sets the size: heads are 16 wide, a layer comes with every 32 of width, the MLP is 8/3 as wide as
    the stream, rounded up to a multiple of 8. With 512 tokens, widths 16, 32, 48, 64, 96, 128 and 160 have 20, 45,
    105, 166, 431, 923 and 1714 thousand parameters.
    """
    if width < _HEAD_WIDTH or width % _HEAD_WIDTH:
        raise ValueError(f"width is {width}; expected a positive multiple of {_HEAD_WIDTH}, the width of a head.")
    return LlamaConfig(
        vocabulary=vocabulary,
        context=context,
        width=width,
        depth=max(1, round(width / _WIDTH_PER_LAYER)),
        heads=width // _HEAD_WIDTH,
        mlp_width=-(-8 * width // (3 * _MLP_MULTIPLE)) * _MLP_MULTIPLE,
    )
