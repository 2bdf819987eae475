"""The learning rate of each size: one for all, scaled by a rule, given, or chosen by a small sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from spectral_reach.studies.config import SettingTypeError, check, check_types
from spectral_reach.studies.models.parametrisation import MUP
from spectral_reach.studies.models.registry import ModelConfig

RULES = ("constant", "inverse_width", "given", "sweep")


@dataclass(frozen=True, kw_only=True, slots=True)
class RateConfig:
    """How the peak learning rate of a size follows from ``training.learning_rate``, the base.

    Attributes:
        rule: ``constant``: the base (what muP is for). ``inverse_width``: base x reference_width / width, what Adam
            wants of matrices with more inputs; not for muP, which scales rates itself. ``given``: by width or, where
            sizes share one, by parameters, from ``by_width``. ``sweep``: every factor of ``factors`` times the rate of
            ``inverse_width``, in muP times the base, is tried for ``sweep_steps`` updates, and the runs take the rate
            that ended with the lowest held-out loss: on the units of the losses that they report, which so have had a
            part in the choice.
        reference_width: the width that the base is for.
        by_width: the rates of ``given``; the keys are widths or numbers of parameters.
        factors: of the sweep.
        sweep_steps: updates of each run of the sweep, at most those of the runs themselves.
    """

    rule: str = "inverse_width"
    reference_width: int = 64
    by_width: Mapping[str, float] = field(default_factory=dict)
    factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    sweep_steps: int = 100

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "rule", self.rule in RULES, " or ".join(RULES))
        for name in ("reference_width", "sweep_steps"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        if not isinstance(self.by_width, Mapping):
            raise SettingTypeError(f"RateConfig.by_width is {self.by_width!r}; expected rates by width.")
        if not isinstance(self.factors, list | tuple):
            raise SettingTypeError(f"RateConfig.factors is {self.factors!r}; expected a list of numbers.")
        for name, values in (("by_width", self.by_width.values()), ("factors", self.factors)):
            good = all(isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < math.inf for v in values)
            check(self, name, good, "positive numbers")
        check(self, "factors", len(self.factors) >= 2 and len(set(self.factors)) == len(self.factors), "two or more")
        object.__setattr__(self, "factors", tuple(float(factor) for factor in self.factors))
        by_width = {str(width): float(rate) for width, rate in self.by_width.items()}
        object.__setattr__(self, "by_width", by_width)

    def rate(self, base: float, model: ModelConfig) -> float:
        """The peak rate of ``model``; of a sweep the one that it is centred on.

        Raises:
            ValueError: none is given for its width, or muP's scaling would be made twice.
        """
        if self.rule == "constant":
            return base
        if self.rule == "given":
            for key in (str(model.parameters), str(model.width)):
                if key in self.by_width:
                    return self.by_width[key]
            raise ValueError(
                f"RateConfig.by_width has rates for {', '.join(self.by_width) or '(none)'}; expected one for width "
                f"{model.width} or {model.parameters} parameters too, or another rule."
            )
        # Not every model family has parametrisations.
        if getattr(model, "parametrisation", None) != MUP:
            return base * self.reference_width / model.width
        if self.rule == "inverse_width":
            raise ValueError(
                "RateConfig.rule is 'inverse_width' for a model in muP, which scales rates by width itself; expected "
                "constant, given or sweep. Set rates.rule to constant: in muP one rate holds at every width."
            )
        return base

    def sweep(self, base: float, model: ModelConfig) -> tuple[float, ...]:
        """The rates to try; none where the rule is no sweep."""
        if self.rule != "sweep":
            return ()
        return tuple(factor * self.rate(base, model) for factor in sorted(self.factors))
