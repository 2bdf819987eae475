"""The sizes of the published SimpleStories models: Llamas of 512 tokens with 4,096 entries and tied embeddings.

Layers, width and heads are those of the published models (Finke et al. 2025, "Parameterized Synthetic Text Generation
with SimpleStories"). That two key-value heads are shared by all, and that the MLP is 8/3 as wide as the stream, rounded
down, is what their training code says of its largest size. With both, the counts are 1.25, 5.37, 11.02, 29.63 and 35.13
million: what the names say, but for 5M, which is 7% larger than its name. A key-value head for every head would make
all others 5 to 13% larger than theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from spectral_reach.studies.models.llama import LlamaConfig

DIMENSIONS: Mapping[str, int] = MappingProxyType({"vocabulary": 4096, "context": 512})
"""Of the published models; their tokenizer has so many entries."""


def _shape(*, layers: int, width: int, heads: int) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "width": width,
            "depth": layers,
            "heads": heads,
            "mlp_width": 8 * width // 3,
            "tied": True,
            "key_value_heads": 2,
        }
    )


SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "1.25M": _shape(layers=4, width=128, heads=4),
        "5M": _shape(layers=6, width=256, heads=4),
        "11M": _shape(layers=6, width=384, heads=6),
        "30M": _shape(layers=10, width=512, heads=8),
        "35M": _shape(layers=12, width=512, heads=8),
    }
)
"""For ``LlamaConfig.of_shape``, by published name, smallest first."""


def simplestories(size: str) -> LlamaConfig:
    """The Llama of this published size.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if size not in SHAPES:
        raise ValueError(f"Unknown SimpleStories size {size!r}; the known ones are {', '.join(SHAPES)}.")
    return LlamaConfig.of_shape(SHAPES[size], DIMENSIONS)
