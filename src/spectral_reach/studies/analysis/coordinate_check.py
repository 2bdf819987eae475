"""The results of a coordinate check: how sizes grow with width, and where the best learning rates are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectral_reach.records.results import Results
from spectral_reach.studies.analysis.estimate import Estimate, FloatArray, mean
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.seed_spread import student_interval
from spectral_reach.studies.analysis.verdict import Verdict, within
from spectral_reach.studies.study_folder import read_header

STUDY = "coordinate-check"

IntArray = npt.NDArray[np.intp]

FLAT = 0.3
"""A slope nearer to 0 than this counts as none: a factor of four in width then changes sizes by half at most."""
STEEP = 0.5
"""One above this counts as growth: what independent random terms of the same size sum to."""
ONE_OCTAVE = 1.0
"""Best rates nearer to each other than a factor of two are the same: their losses hardly differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One half of a comparison: a model family in one parametrisation."""

    family: str
    parametrisation: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SizeCurve:
    """How large one kind of activation is, or what some steps changed in it, at every width.

    Attributes:
        kind: of activation.
        step: after so many steps.
        of_change: whether it is the change since the first step.
        widths: (W,).
        sizes: root mean squares, (seeds, W).
        slope: of log size against log width, mean over seeds.
    """

    kind: str
    step: int
    of_change: bool
    widths: tuple[int, ...]
    sizes: FloatArray
    slope: Estimate

    @property
    def name(self) -> str:
        """In tables and figures."""
        return f"change of {self.kind}" if self.of_change else self.kind


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RateCurve:
    """Losses at each rate, of one width.

    Attributes:
        rates: (R,).
        losses: (seeds, R); NaN where training diverged.
        best: log2 of the rate that is best for the mean loss over the seeds; its error is the jackknife's, over seeds.
        at_edge: whether it is the lowest or highest rate, so that a better one may lie beyond.
    """

    width: int
    rates: tuple[float, ...]
    losses: FloatArray
    best: Estimate
    at_edge: bool


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SideResult:
    """All results of a side, as far as they are there.

    Attributes:
        sizes: the activations' after the last step, and the change of the logits, by name; those with two widths.
        initial: the same before the first step; without the change.
        along: the change of the logits after 1, 2, ... steps.
        rates: widths ascending.
        shift: of the best rate from the narrowest to the widest model, in octaves (log2); its error is the jackknife's.
    """

    side: Side
    sizes: tuple[SizeCurve, ...]
    initial: tuple[SizeCurve, ...]
    along: tuple[SizeCurve, ...]
    rates: tuple[RateCurve, ...]
    shift: Estimate

    @property
    def is_flat(self) -> bool:
        """No size grows or shrinks with width."""
        return all(abs(each.slope.value) < FLAT for each in self.sizes)

    @property
    def grows(self) -> bool:
        """Every size does."""
        return all(each.slope.value > STEEP for each in self.sizes)

    @property
    def shift_interval(self) -> Interval:
        """The 95% interval of the shift, by Student's factor for its seeds; its ends are NaN for one seed."""
        return student_interval(self.shift, self.shift.n - 1)

    @property
    def shift_is_bound(self) -> bool:
        """The best rate falls with width by an octave or more, error included, to below the lowest that was tried."""
        lowest_is_best = self.rates[-1].at_edge and self.rates[-1].best.value < np.log2(self.rates[-1].rates[0]) + 0.5
        others = any(each.at_edge for each in self.rates[:-1])
        return bool(lowest_is_best and not others and self.shift_interval.high <= -ONE_OCTAVE)

    @property
    def transfers(self) -> bool | None:
        """Whether the best rate of the narrowest is that of the widest, to less than an octave.

        None where that is not settled: the 95% interval of the shift holds an octave, one seed has no interval, or a
        best rate is at the edge.
        """
        if self.shift_is_bound:
            return False
        if any(each.at_edge for each in self.rates):
            return None
        settled = {Verdict.SUPPORTED: True, Verdict.CONTRADICTED: False}
        return settled.get(within(self.shift_interval, -ONE_OCTAVE, ONE_OCTAVE))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CoordinateCheck:
    """A study, finished or not."""

    preset: str
    settings: Mapping[str, Any]
    sides: tuple[SideResult, ...]
    planned: int
    done: int


def read_coordinate_check(folder: Path | str) -> CoordinateCheck:
    """Read the results that there are.

    Raises:
        ForeignFolderError: the folder is no coordinate check.
        RecordError: a result cannot be read.
    """
    header = read_header(Path(folder), STUDY)
    results = Results(folder)
    have = set(results.names())
    sizes: dict[Side, dict[int, Mapping[str, Any]]] = {}
    sweeps: dict[Side, dict[int, dict[int, FloatArray]]] = {}
    names = [name for name in header["tasks"] if name in have]
    for result in map(results.load, names):
        settings = result.task["settings"]
        side = Side(family=settings["family"], parametrisation=settings["parametrisation"])
        if result.task["kind"] == "coordinate_sizes":
            sizes.setdefault(side, {})[settings["width"]] = result.values
        else:
            of_width = sweeps.setdefault(side, {}).setdefault(settings["width"], {})
            of_width[settings["seed"]] = np.asarray(result.values["loss"], dtype=np.float64)
    rates = tuple(header["settings"]["rates"])
    return CoordinateCheck(
        preset=header["preset"],
        settings=header["settings"],
        sides=tuple(
            _side(side, sizes.get(side, {}), sweeps.get(side, {}), rates) for side in dict.fromkeys([*sizes, *sweeps])
        ),
        planned=len(header["tasks"]),
        done=len(names),
    )


def _side(
    side: Side,
    sizes: Mapping[int, Mapping[str, Any]],
    sweeps: Mapping[int, Mapping[int, FloatArray]],
    rates: tuple[float, ...],
) -> SideResult:
    initial, along, final = [], [], []
    if len(sizes) >= 2:
        some = next(iter(sizes.values()))
        kinds, steps = [str(kind) for kind in some["kinds"]], some["size"].shape[1] - 1
        activations = [kind for kind in kinds if kind != "logits"]
        initial = [_curve(sizes, kinds, kind, step=0) for kind in kinds]
        along = [_curve(sizes, kinds, "logits", step=step, of_change=True) for step in range(1, steps + 1)]
        final = [*(_curve(sizes, kinds, kind, step=steps) for kind in activations), along[-1]]
    curves = [_rate_curve(width, rates, [sweeps[width][s] for s in sorted(sweeps[width])]) for width in sorted(sweeps)]
    return SideResult(
        side=side,
        sizes=tuple(final),
        initial=tuple(initial),
        along=tuple(along),
        rates=tuple(curves),
        shift=_shift(sweeps, rates),
    )


def _curve(
    by_width: Mapping[int, Mapping[str, Any]], kinds: Sequence[str], kind: str, *, step: int, of_change: bool = False
) -> SizeCurve:
    widths = tuple(sorted(by_width))
    quantity = "change" if of_change else "size"
    values: FloatArray = np.stack([by_width[w][quantity][:, step, kinds.index(kind)] for w in widths], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    x = np.log(widths) - np.log(widths).mean()
    slopes = logs @ x / (x @ x)
    return SizeCurve(kind=kind, step=step, of_change=of_change, widths=widths, sizes=values, slope=mean(slopes))


def _rate_curve(width: int, rates: tuple[float, ...], losses: Sequence[FloatArray]) -> RateCurve:
    stacked = np.stack(losses)
    return RateCurve(
        width=width,
        rates=rates,
        losses=stacked,
        best=_over_seeds(lambda seeds: best_rate(rates, stacked[seeds].mean(0))[0], len(stacked)),
        at_edge=best_rate(rates, stacked.mean(0))[1],
    )


def _shift(sweeps: Mapping[int, Mapping[int, FloatArray]], rates: tuple[float, ...]) -> Estimate:
    if len(sweeps) < 2:
        return Estimate.missing("there are not yet two widths")
    narrow, wide = sweeps[min(sweeps)], sweeps[max(sweeps)]
    both = sorted(narrow.keys() & wide.keys())
    low, high = (np.stack([each[seed] for seed in both]) if both else np.empty((0, 0)) for each in (narrow, wide))
    return _over_seeds(
        lambda seeds: best_rate(rates, high[seeds].mean(0))[0] - best_rate(rates, low[seeds].mean(0))[0], len(both)
    )


def _over_seeds(statistic: Callable[[IntArray], float], seeds: int) -> Estimate:
    """A statistic of the seeds' numbers, with the error that leaving one out after another gives (the jackknife)."""
    if seeds == 0:
        return Estimate.missing("no seed is there at both widths")
    everyone = np.arange(seeds)
    value = statistic(everyone)
    if math.isnan(value):
        return Estimate.missing("training diverged at every rate")
    if seeds == 1:
        return Estimate(value=value, stderr=math.nan, n=1, reason="one seed has no spread to take an error from")
    without = np.array([statistic(np.delete(everyone, seed)) for seed in everyone])
    variance = (seeds - 1) / seeds * float(((without - without.mean()) ** 2).sum())
    return Estimate(value=value, stderr=math.sqrt(variance), n=seeds)


def best_rate(rates: Sequence[float], losses: FloatArray) -> tuple[float, bool]:
    """log2 of the rate with the lowest loss, refined between the rates, and whether it is the first or last of them.

    The minimum of the parabola through the lowest loss and its two neighbours, in log2 of the rate; the rate itself at
    the edge or beside a training that diverged. NaN where all did.
    """
    if not np.isfinite(losses).any():
        return float("nan"), False
    x = np.log2(rates)
    i = int(np.nanargmin(losses))
    if i in (0, len(x) - 1):
        return float(x[i]), True
    around = slice(i - 1, i + 2)
    if not np.isfinite(losses[around]).all():
        return float(x[i]), False
    a, b, _ = np.polyfit(x[around] - x[i], losses[around], 2)
    return float(x[i] - b / (2 * a)) if a > 0 else float(x[i]), False
