"""At which steps of a training run a measurement is due."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import SupportsIndex, TypeAlias

Schedule: TypeAlias = int | Iterable[int] | Callable[[int], bool]


def log_windows(total_steps: int, per_decade: int, width: int) -> tuple[int, ...]:
    """Steps to measure: windows of ``width`` consecutive steps, evenly spaced in log10(step).

    Windows start at 0, at round(10^(j / per_decade)) for j = 0, 1, ..., and a last one ends at
    ``total_steps - 1``. Early windows overlap, so that the first steps are all measured. One window is one point
    of a curve with an error bar: the spread within it is the noise of mini-batches.

    Args:
        total_steps: steps of the run; those measured are in [0, total_steps).
        per_decade: windows that start while the step grows tenfold.
        width: steps in a window.

    Returns:
        The steps, sorted, each once.

    Raises:
        ValueError: an argument below 1.
        TypeError: an argument that is no integer.

    Example:
        >>> log_windows(1000, per_decade=1, width=3)
        (0, 1, 2, 3, 10, 11, 12, 100, 101, 102, 997, 998, 999)
    """
    total_steps = integer_from(1, "total_steps", total_steps)
    per_decade = integer_from(1, "per_decade", per_decade)
    width = integer_from(1, "width", width)
    last_start = max(0, total_steps - width)
    starts = {0, last_start}
    j = 0
    while (start := round(10 ** (j / per_decade))) < last_start:
        starts.add(start)
        j += 1
    steps = {step for start in starts for step in range(start, start + width)}
    return tuple(sorted(step for step in steps if step < total_steps))


def due_at(schedule: Schedule) -> Callable[[int], bool]:
    """The schedule as a predicate: every n-th step from 0 on, these steps, or whatever a callable says.

    Raises:
        TypeError: a schedule of another kind, or steps that are no integers.
        ValueError: n below 1, or a negative step.
    """
    if callable(schedule):
        return schedule
    # An array or tensor of no axes is one number, though its type says that it can be iterated over.
    if isinstance(schedule, Iterable) and not isinstance(schedule, (str, bytes)) and getattr(schedule, "ndim", 1) > 0:
        return frozenset(integer_from(0, "a step of schedule", each) for each in schedule).__contains__
    if isinstance(schedule, (bool, str, bytes)) or not isinstance(schedule, SupportsIndex):
        raise TypeError(
            f"schedule is {schedule!r}; expected every how many steps to measure (int), the steps to measure "
            "(for example sr.log_windows(...)) or a callable step -> bool"
        )
    every = integer_from(1, "schedule, every how many steps to measure,", schedule)
    return lambda step: step % every == 0


def integer_from(least: int, name: str, value: object) -> int:
    """``value`` as an int of at least ``least``; integers of NumPy and torch count, bools do not.

    Raises:
        TypeError, ValueError: it is none; the message calls it ``name``.
    """
    number = None
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        # Every tensor and array has __index__; those that hold no single integer say so only when it is called.
        with suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise TypeError(f"{name} is {value!r}; expected an integer of {least} or more")
    if number < least:
        raise ValueError(f"{name} is {number}; expected an integer of {least} or more")
    return number
