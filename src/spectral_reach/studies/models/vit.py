"""Vision transformers with random weights, from tiny to small: width, depth, heads and MLP grow together.

Architecture: transformers' ``ViTForImageClassification`` (Dosovitskiy et al. 2021): patches of pixels and a class token
with learned positions, pre-norm layers, and a linear classifier with bias on the class token. No dropout, no pooler.
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
    from transformers import PreTrainedModel, ViTForImageClassification

_HEAD_WIDTH = 16
_WIDTH_PER_LAYER = 32
_MLP_RATIO = 4
_PATCHES_A_SIDE = 8

_DIMENSIONS = ("classes", "channels", "image_size")
_READS = "A ViT reads square images"
_WHERE = "The model family 'vit'"


@register("vit")
@dataclass(frozen=True, kw_only=True, slots=True)
class ViTConfig:
    """The shape of one vision transformer. It is called with pixels (B, channels, image_size, image_size).

    Attributes:
        classes: K outputs of an image.
        channels: colours of a pixel.
        image_size: pixels along a side.
        patch: pixels along a side of a patch; it divides ``image_size``.
        width: of the residual stream; a multiple of the number of heads.
        depth: number of layers.
        heads: attention heads in every layer.
        mlp_width: hidden width of the MLP.
        parametrisation: ``standard``, or ``mup``, maximal update parametrisation (``models.parametrisation``).
        base_width: in muP the width where it is the standard parametrisation; else 0.
        base_head_width: in muP the width of a head there, 0 for heads as wide as here; else 0.
    """

    classes: int
    channels: int
    image_size: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    parametrisation: str = STANDARD
    base_width: int = 0
    base_head_width: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("classes", "channels", "image_size", "patch", "width", "depth", "heads", "mlp_width"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "patch", self.image_size % self.patch == 0, f"a divisor of the image's {self.image_size} pixels")
        check(self, "width", self.width % self.heads == 0, f"a multiple of the {self.heads} heads")
        check_parametrisation(self)

    @property
    def dimensions(self) -> Mapping[str, int]:
        """Classes, channels and image size, those of the data."""
        return {"classes": self.classes, "channels": self.channels, "image_size": self.image_size}

    @property
    def patches(self) -> int:
        """Of an image."""
        return (self.image_size // self.patch) ** 2

    @property
    def tokens_per_unit(self) -> int:
        """Patches of an image and the class token."""
        return self.patches + 1

    @property
    def parameters(self) -> int:
        """P: every parameter, counted from the shape."""
        pixels = self.channels * self.patch**2
        embeddings = (pixels + 1) * self.width + (1 + self.tokens_per_unit) * self.width
        return embeddings + self.parameters_without_embeddings + self.readout_parameters

    @property
    def readout_parameters(self) -> int:
        """K x width, and K biases."""
        return self.classes * (self.width + 1)

    @property
    def tied(self) -> bool:
        """Classes have no embedding to share."""
        return False

    @property
    def parameters_without_embeddings(self) -> int:
        """P without what embeds patches, class token and positions, and without the readout: layers and last norm."""
        attention = 4 * self.width * (self.width + 1)
        mlp = 2 * self.width * self.mlp_width + self.mlp_width + self.width
        norms = 4 * self.width
        return self.depth * (attention + mlp + norms) + 2 * self.width

    def build(self, seed: int) -> ViTForImageClassification:
        """The model in float32 with weights drawn from ``seed`` alone; the global generator stays as is."""
        import torch
        from transformers import ViTConfig as Architecture
        from transformers import ViTForImageClassification

        architecture: dict[str, Any] = {
            "num_labels": self.classes,
            "num_channels": self.channels,
            "image_size": self.image_size,
            "patch_size": self.patch,
            "hidden_size": self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "intermediate_size": self.mlp_width,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "attn_implementation": "sdpa",
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ViTForImageClassification(Architecture(**architecture))
        parametrise(model, self.readout(model), self)
        return model

    def readout(self, model: PreTrainedModel) -> nn.Linear:
        """The classifier."""
        untyped: Any = model
        classifier: nn.Linear = untyped.classifier
        return classifier

    def rate_factors(self, model: PreTrainedModel, optimiser: str) -> Mapping[str, float]:
        """One rate for all in standard parametrisation; else those of muP."""
        return rate_factors(model, self.readout(model), self, optimiser)

    @classmethod
    def of_width(cls, width: int, dimensions: Mapping[str, int], options: Mapping[str, Any]) -> ViTConfig:
        """``vit(width)`` with ``options`` in place of what it derives; in muP as deep as at ``base_width``."""
        check_dimensions(dimensions, _DIMENSIONS, _READS)
        check_shape(options, dimensions, _WHERE)
        return from_mapping(cls, member(partial(vit, **dimensions), width, options), _WHERE)

    @classmethod
    def of_shape(cls, shape: Mapping[str, Any], dimensions: Mapping[str, int]) -> ViTConfig:
        """The ViT with these settings, besides classes, channels and image size."""
        check_dimensions(dimensions, _DIMENSIONS, _READS)
        check_shape(shape, dimensions, _WHERE)
        return from_mapping(cls, {**dimensions, **shape}, _WHERE)


def vit(width: int, *, classes: int, channels: int, image_size: int) -> ViTConfig:
    """The member of the family with this width.

    One number sets the size: heads are 16 wide, a layer comes with every 32 of width, the MLP is 4 times as wide as
    the stream. Patches are the largest that leave 8 along a side, single pixels where there are fewer. With 10 classes
    of 32 x 32 colour images, widths 16, 32, 64, 96, 128 and 192 have 5, 17, 108,
    348, 809 and 2,694 thousand parameters.
    """
    if width < _HEAD_WIDTH or width % _HEAD_WIDTH:
        raise ValueError(f"width is {width}; expected a positive multiple of {_HEAD_WIDTH}, the width of a head.")
    patches = (p for p in range(image_size, 1, -1) if image_size % p == 0 and image_size // p >= _PATCHES_A_SIDE)
    return ViTConfig(
        classes=classes,
        channels=channels,
        image_size=image_size,
        patch=next(patches, 1),
        width=width,
        depth=max(1, round(width / _WIDTH_PER_LAYER)),
        heads=width // _HEAD_WIDTH,
        mlp_width=_MLP_RATIO * width,
    )
