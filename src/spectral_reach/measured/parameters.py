"""Which parameters theta are measured: the trainable ones, or a selection of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

from spectral_reach.measured.isolation import unwrapped
from spectral_reach.measured.sharding import check_whole

_One: TypeAlias = str | nn.Module | nn.Parameter
Selection: TypeAlias = _One | Iterable[_One] | Callable[[str, nn.Parameter], bool] | None


def select_parameters(model: nn.Module, selection: Selection = None) -> dict[str, nn.Parameter]:
    """Trainable parameters by name, each once, in the model's order. Frozen parameters never count.

    ``selection``: None for all; a parameter name or the name of a module (with everything below it); a module or a
    parameter of the model; several of these; or a predicate ``(name, parameter) -> bool``.

    Raises:
        ValueError: a name or an object that is not in the model, nothing trainable left, or parameters of which this
            process holds a part only.
        TypeError: a selection of another kind.
    """
    check_whole(model)
    lazy = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if is_lazy(tensor)]
    if lazy:
        raise ValueError(
            f"{lazy[0]!r} has no shape yet (a lazy module); expected an initialised model: run one forward pass first"
        )
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("the model has no trainable parameters (requires_grad); expected at least one")
    if any(p.is_complex() for p in trainable.values()):
        name = next(name for name, p in trainable.items() if p.is_complex())
        raise TypeError(f"parameter {name!r} is complex; expected real parameters")
    if selection is None:
        return trainable
    if callable(selection) and not isinstance(selection, nn.Module):
        chosen = {name: p for name, p in trainable.items() if selection(name, p)}
    else:
        single = isinstance(selection, (str, nn.Module, nn.Parameter))
        wanted: set[int] = set()
        for item in (selection,) if single else _iterate(selection):
            wanted |= _matches(model, item)
        chosen = {name: p for name, p in trainable.items() if id(p) in wanted}
    if not chosen:
        raise ValueError(
            f"parameters selects none of the model's {len(trainable)} trainable parameters; expected at least one, for "
            f"example {next(iter(trainable))!r}"
        )
    return chosen


def _iterate(selection: object) -> Iterable[object]:
    if not isinstance(selection, Iterable):
        raise TypeError(
            f"parameters is a {type(selection).__name__}; expected names, modules, parameters or a predicate "
            "(name, parameter) -> bool"
        )
    return selection


def _matches(model: nn.Module, item: object) -> set[int]:
    """Identities of the parameters (trainable or not) that one name, module or parameter stands for."""
    if isinstance(item, nn.Parameter):
        if not any(p is item for p in model.parameters()):
            raise ValueError(f"parameters holds a parameter of shape {tuple(item.shape)} that the model does not have")
        return {id(item)}
    if isinstance(item, nn.Module):
        item = unwrapped(item)
        if not any(module is item for module in model.modules()):
            raise ValueError(f"parameters holds a {type(item).__name__} that is not a module of the model")
        return {id(p) for p in item.parameters()}
    if isinstance(item, str):
        # Shared parameters answer to each of their names.
        named = dict(model.named_parameters(remove_duplicate=False))
        found = {id(p) for name, p in named.items() if name == item or name.startswith(item + ".")}
        if not found:
            modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
            near = difflib.get_close_matches(item, [*named, *modules], n=3, cutoff=0.4) or list(named)[:3]
            raise ValueError(f"parameters names {item!r}, which the model does not have; nearest names: {near}")
        return found
    raise TypeError(f"parameters holds a {type(item).__name__}; expected names, modules or parameters")
