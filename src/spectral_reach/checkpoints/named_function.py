"""``module:function`` as a user writes it, imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def import_function(name: str) -> Callable[..., Tensor]:
    """The callable that ``name`` stands for. Modules in the current folder come first, as with ``python -m``.

    Raises:
        ValueError: there is no such module or attribute, the module cannot be imported, or it is no function.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"the loss is {name!r}; expected MODULE:FUNCTION, for example my_losses:focal")
    with _current_folder_first():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # A module of that name may be there, and lack another one.
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise ValueError(
                    f"loss {name!r}: {module_name} imports {error.name}, which is not installed"
                ) from error
            raise ValueError(
                f"loss {name!r}: there is no module {error.name!r}; expected one in {Path.cwd()}, or an installed one"
            ) from error
        except Exception as error:
            raise ValueError(f"loss {name!r}: importing {module_name} raised {error!r}") from error
    try:
        found: Any = reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        has = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ValueError(
            f"loss {name!r}: {module_name} ({getattr(module, '__file__', None)}) has no {attribute!r}; its functions "
            f"are {', '.join(has) or 'none'}"
        ) from error
    if not callable(found) or isinstance(found, type):
        what = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise ValueError(f"loss {name!r} is {what}; expected a function (outputs, targets) -> scalar")
    loss: Callable[..., Tensor] = found
    return loss


class LossFunctionError(ValueError, RuntimeError):
    """What a function of the user's raised, by its name.

    A ``RuntimeError`` too: whoever calls a loss looks then whether labels that are out of range are the reason.
    """


@dataclass(frozen=True, slots=True)
class NamedFunction:
    """A loss that tells what goes wrong in it as the user's to mend.

    Called with outputs and targets, as the function.

    Attributes:
        name: ``module:function``.
        function: that.
    """

    name: str
    function: Callable[..., Tensor]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar.

        Raises:
            LossFunctionError: the function raised something, memory that ran out excepted, or returned no tensor.
        """
        try:
            value: object = self.function(outputs, targets)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise LossFunctionError(f"loss {self.name!r} raised {error!r}") from error
        if not isinstance(value, Tensor):
            raise LossFunctionError(
                f"loss {self.name!r} returned a {type(value).__name__}; expected a scalar tensor, the mean over samples"
            )
        return value


@contextmanager
def _current_folder_first() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        # What was imported may have changed the list itself.
        if here in sys.path:
            sys.path.remove(here)
