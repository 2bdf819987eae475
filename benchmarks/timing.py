"""Seconds of several pieces of work, side by side: in rounds, so that what disturbs the machine disturbs them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds of one piece of work in every round."""

    rounds: list[float]

    @property
    def median(self) -> float:
        """What is reported."""
        return statistics.median(self.rounds)

    @property
    def scatter(self) -> float:
        """Half the distance between the quartiles, as a fraction of the median: how noisy the machine was."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


def interleaved(works: Mapping[str, Callable[[int], object]], rounds: int) -> tuple[dict[str, Times], dict[str, list]]:
    """Every work once a round, called with the number of the round; their times and results.

    A round before the first is not counted: it pays for what is made once (threads, caches, the graph's rules).
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    results: dict[str, list] = {name: [] for name in works}
    gc.collect()
    gc.freeze()  # what is there already need not be gone through before every work
    for number in range(-1, rounds):
        for name, work in works.items():
            gc.collect()
            start = time.perf_counter()
            result = work(max(number, 0))
            seconds = time.perf_counter() - start
            if number >= 0:
                times[name].append(seconds)
                results[name].append(result)
    gc.unfreeze()
    return {name: Times(rounds) for name, rounds in times.items()}, results


def median_ratio(one: Times, other: Times) -> float:
    """How many times as long ``one`` takes as ``other``, from the two times of each round."""
    return statistics.median(a / b for a, b in zip(one.rounds, other.rounds, strict=True))
