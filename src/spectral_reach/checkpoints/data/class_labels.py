"""What a label column says, as the numbers that a classifier of transformers is trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

_PLACEHOLDER = re.compile(r"LABEL_\d+")


class ClassLabels:
    """Labels of a classifier, as tensors of one unit.

    - ``problem_type`` of the config, or one output: regression, float32 (outputs,).
    - a list for each unit: several classes at once, float32 (outputs,).
    - else: one class, int64 ().

    Classes are numbers, or names of the config's ``label2id``, whatever their case.

    Args:
        config: of the model.
        names: of the classes that numbers in the column stand for, where the data say so; these are then looked up
            in the config, unless that has no names of its own.

    Raises:
        ValueError: names that are not the model's.
    """

    def __init__(self, config: Any, names: Sequence[str] | None = None) -> None:
        self._outputs: int = config.num_labels
        known: Mapping[str, int] = config.label2id or {}
        self._known = {str(name).casefold(): int(number) for name, number in known.items()}
        self._problem: str | None = config.problem_type
        if self._problem is None and self._outputs == 1:
            self._problem = "regression"
        self._by_number: dict[int, int] | None = None
        if names is not None and self._problem != "regression":
            self._by_number = self._looked_up(names)

    def __call__(self, value: object) -> Tensor:
        """The label of a unit.

        Raises:
            ValueError: it is none of the model's.
        """
        if self._problem == "regression":
            return self._numbers(value if isinstance(value, Sequence) and not isinstance(value, str) else [value])
        several = isinstance(value, Sequence) and not isinstance(value, str)
        if self._problem == "multi_label_classification" and not several:
            raise ValueError(f"the label is {value!r}; the model tells several classes at once: expected a list")
        if not several:
            return torch.tensor(self._class(value))
        if self._problem == "single_label_classification":
            raise ValueError(f"the label is the list {value!r}; the model tells one class: expected a number or a name")
        assert isinstance(value, Sequence)
        if any(isinstance(entry, str) for entry in value):
            chosen = torch.zeros(self._outputs)
            chosen[[self._class(name) for name in value]] = 1
            return chosen
        numbers = self._numbers(value)
        if numbers.min() < 0 or numbers.max() > 1:
            raise ValueError(
                f"the label is {value!r}; the model tells several classes at once: expected 0 to 1 for each"
            )
        return numbers

    def _numbers(self, values: Sequence[object]) -> Tensor:
        if len(values) != self._outputs:
            raise ValueError(f"the label has {len(values)} numbers; the model has {self._outputs} outputs")
        try:
            numbers = [float(value) for value in values if isinstance(value, (Real, str))]
        except ValueError:
            numbers = []
        if len(numbers) != len(values) or not all(map(math.isfinite, numbers)):
            raise ValueError(f"the label is {values!r}; expected {self._outputs} finite numbers")
        return torch.tensor(numbers)

    def _class(self, value: object) -> int:
        number: int | None = None
        if isinstance(value, str):
            number = self._known.get(value.casefold())
            if number is None and re.fullmatch(r"-?\d+", value):
                number = int(value)
        elif isinstance(value, Real) and float(value).is_integer():
            number = int(float(value))
            number = number if self._by_number is None else self._by_number.get(number, number)
        if number is None or not 0 <= number < self._outputs:
            names = ", ".join(sorted(self._known)[:5])
            raise ValueError(
                f"the label is {value!r}; the model has {self._outputs} classes: expected 0 to {self._outputs - 1}, or "
                f"a name of its config, such as {names or 'none'}"
            )
        return number

    def _looked_up(self, names: Sequence[str]) -> dict[int, int] | None:
        if all(name.casefold() in self._known for name in names):
            return {place: self._known[name.casefold()] for place, name in enumerate(names)}
        has_names = not all(_PLACEHOLDER.fullmatch(name.upper()) for name in self._known)
        if has_names or len(names) > self._outputs:
            raise ValueError(
                f"the data have {len(names)} classes ({_few(names)}) and the model {self._outputs} "
                f"({_few(sorted(self._known))}); expected classes of the model, by the names of its config"
            )
        return None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
