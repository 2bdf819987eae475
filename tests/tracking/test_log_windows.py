"""Schedules: windows that are evenly spaced in log10(step), and the three ways to say when."""

import math
from itertools import pairwise

import numpy as np
import pytest

import spectral_reach as sr
from spectral_reach.tracking.schedule import due_at


@pytest.mark.parametrize("total_steps", [1, 2, 7, 10, 99, 600, 1000, 12_345])
@pytest.mark.parametrize("per_decade", [1, 3, 8])
@pytest.mark.parametrize("width", [1, 4, 16])
def test_windows_cover_the_run_evenly_in_log_step(total_steps: int, per_decade: int, width: int) -> None:
    steps = sr.log_windows(total_steps, per_decade, width)
    assert list(steps) == sorted(set(steps))
    assert all(type(step) is int and 0 <= step < total_steps for step in steps)
    # A window at the start and one at the end.
    first, last = range(min(width, total_steps)), range(max(0, total_steps - width), total_steps)
    assert set(first) <= set(steps)
    assert set(last) <= set(steps)
    # Every stretch of consecutive steps is made of whole windows.
    starts = [step for before, step in pairwise([-2, *steps]) if step > before + 1]
    ends = [step for step, after in pairwise([*steps, total_steps + 1]) if after > step + 1]
    assert all(end - start + 1 >= min(width, total_steps) for start, end in zip(starts, ends, strict=True))
    # Wherever windows stand apart, neighbours are 1/per_decade decades apart, up to rounding to whole steps; the last
    # one ends with the run, so it may be nearer.
    apart = [start for start in starts if start * (10 ** (1 / per_decade) - 1) > width + 2]
    for one, other in pairwise(apart[:-1]):
        rounding = (0.5 / one + 0.5 / other) / math.log(10) * 1.5
        assert math.log10(other / one) == pytest.approx(1 / per_decade, abs=rounding)
    if len(apart) > 1:
        assert math.log10(apart[-1] / apart[-2]) <= 1 / per_decade + 1 / apart[-2]


def test_one_window_a_decade_by_hand() -> None:
    assert sr.log_windows(1000, 1, 3) == (0, 1, 2, 3, 10, 11, 12, 100, 101, 102, 997, 998, 999)
    assert sr.log_windows(total_steps=40, per_decade=2, width=1) == (0, 1, 3, 10, 32, 39)
    assert sr.log_windows(5, 4, 100) == (0, 1, 2, 3, 4)
    assert sr.log_windows(np.int64(1), 1, 1) == (0,)


def test_the_number_of_measurements_grows_with_the_logarithm_of_the_run() -> None:
    short, long = sr.log_windows(10_000, 4, 8), sr.log_windows(100_000, 4, 8)
    # A decade more: four windows more, the last window moved.
    assert len(long) - len(short) == 4 * 8


@pytest.mark.parametrize("name", ["total_steps", "per_decade", "width"])
@pytest.mark.parametrize("value", [0, -3])
def test_windows_need_one_or_more_of_each(name: str, value: int) -> None:
    arguments = {"total_steps": 100, "per_decade": 4, "width": 8, name: value}
    with pytest.raises(ValueError, match=f"{name} is {value}; expected an integer of 1 or more"):
        sr.log_windows(**arguments)


@pytest.mark.parametrize("value", [2.0, "8", None, True])
def test_windows_need_integers(value: object) -> None:
    with pytest.raises(TypeError, match=f"width is {value!r}; expected an integer of 1 or more"):
        sr.log_windows(100, 4, value)


def test_schedules_say_when() -> None:
    steps = range(12)
    assert [step for step in steps if due_at(5)(step)] == [0, 5, 10]
    assert [step for step in steps if due_at(np.int32(6))(step)] == [0, 6]
    assert [step for step in steps if due_at((3, 1, 100))(step)] == [1, 3]
    assert [step for step in steps if due_at(np.array([2, 4]))(step)] == [2, 4]
    assert [step for step in steps if due_at(range(0, 12, 4))(step)] == [0, 4, 8]
    from_generator = due_at(step * step for step in range(4))
    assert [step for step in [*steps, *steps] if from_generator(step)] == [0, 1, 4, 9, 0, 1, 4, 9]
    assert [step for step in steps if due_at(lambda step: step > 9)(step)] == [10, 11]
    assert not any(due_at(())(step) for step in steps)


@pytest.mark.parametrize("schedule", [None, 1.5, "10", b"10", True, object()])
def test_a_schedule_of_another_kind_is_refused(schedule: object) -> None:
    with pytest.raises(TypeError, match=r"schedule is .*; expected every how many steps to measure \(int\), the steps"):
        due_at(schedule)


@pytest.mark.parametrize(
    ("schedule", "error", "told"),
    [
        (0, ValueError, "schedule, every how many steps to measure, is 0; expected an integer of 1 or more"),
        (-5, ValueError, "is -5; expected an integer of 1 or more"),
        ([3, -1], ValueError, "a step of schedule is -1; expected an integer of 0 or more"),
        ([3, 2.0], TypeError, r"a step of schedule is 2\.0; expected an integer of 0 or more"),
        ([True], TypeError, "a step of schedule is True; expected an integer of 0 or more"),
        (np.array([0.0, 1.0]), TypeError, r"a step of schedule is .*0\.0.*; expected an integer"),
    ],
)
def test_impossible_steps_are_refused(schedule: object, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        due_at(schedule)
