"""Rules by the name of an operation's node in the autograd graph, and how to add one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor
from torch.autograd.graph import Node

from spectral_reach.jacobian.forms import Form
from spectral_reach.jacobian.graph import saved
from spectral_reach.jacobian.layout import Layout, NotByUnitError


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """An operation that takes a parameter, or a tensor made of parameters alone, beside something of every unit.

    Attributes:
        node: the operation's node; its saved tensors are attributes, such as ``node._saved_input``.
        slot: which of its inputs the parameter is.
        shape: of the parameter as it is taken.
        layout: where the units are in the operation's output, and so in the gradient that flows into it.
    """

    node: Node
    slot: int
    shape: tuple[int, ...]
    layout: Layout

    def saved(self, name: str) -> Any:
        """What the operation saved for its backward pass, a constant of the measurement."""
        return saved(self.node, name)


Rule: TypeAlias = Callable[[Use, Tensor], Form]
"""``rule(use, d)``: gradients of the parameter as it is taken, by unit, from the gradient ``d`` of the output."""

_RULES: dict[tuple[str, int], Rule] = {}


def layer_rule(*operations: str, slots: tuple[int, ...]) -> Callable[[Rule], Rule]:
    """Decorator: the rule for parameters that are input ``slots`` of these operations, by the name of their node.

    The names are those of ``tensor.grad_fn.name()``. For an operation of one's own, a ``torch.autograd.Function``
    called ``Mine``, that is ``"MineBackward"``. A rule may raise ``NotByUnitError`` with the reason why it cannot be
    applied. Every measurement checks the rules that it uses against an ordinary backward pass on a few units.

    Example:
        ``Scale.apply(x, w) = x * w`` with x (B, T, D) and w (D,), that saved x:

        >>> import torch
        >>> from spectral_reach.jacobian.forms import Dense
        >>> from spectral_reach.jacobian.rules import layer_rule
        >>> @layer_rule("ScaleBackward", slots=(1,))
        ... def scale(use, d):
        ...     (x,) = use.node.saved_tensors
        ...     return Dense.of(use.layout.by_unit(d * x).flatten(1, -2).sum(1))
    """

    def add(rule: Rule) -> Rule:
        for operation in operations:
            for slot in slots:
                _RULES[operation, slot] = rule
        return rule

    return add


def find_rule(node: Node, slot: int) -> Rule:
    """The rule for input ``slot`` of the operation.

    Raises:
        NotByUnitError: there is none.
    """
    rule = _RULES.get((node.name(), slot))
    if rule is None:
        raise NotByUnitError(f"there is no layer rule for input {slot} of {node.name()}")
    return rule


def all_rules() -> tuple[tuple[tuple[str, int], Rule], ...]:
    """What is registered, to tell whether it has changed."""
    return tuple(_RULES.items())
