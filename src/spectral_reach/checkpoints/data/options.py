"""How many units of a user's data are taken, and how they are cut and masked."""

from __future__ import annotations

from dataclasses import dataclass

from spectral_reach.measured.arguments import integer_from, seed_from


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """What holds for every named batch.

    Attributes:
        units: labelled units in a batch, at most.
        seed: of their choice, and of the masks of masked language models.
        max_length: tokens of a sequence; what is longer is cut, which the description of a batch says. None: a sequence
            that is longer than the model reads is an error.
        chat_template: write ``prompt`` and ``completion``, ``chosen`` or ``rejected`` that are plain text as what a
            user and an assistant said, by the tokenizer's chat template. Messages always go through the template.
        mask_probability: share of tokens that a masked language model has to tell, 0 to 1.
    """

    units: int = 32
    seed: int = 0
    max_length: int | None = None
    chat_template: bool = False
    mask_probability: float = 0.15

    def __post_init__(self) -> None:
        integer_from(1, "units", self.units)
        seed_from(self.seed)
        if self.max_length is not None:
            integer_from(2, "max_length", self.max_length)
        if not 0 < self.mask_probability <= 1:
            raise ValueError(f"mask_probability is {self.mask_probability}; expected more than 0 and at most 1")
