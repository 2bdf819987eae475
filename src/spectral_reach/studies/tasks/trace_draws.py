"""Single draws of the estimators of chi_net, on one batch and one model that a run has kept.

All draws of a task share a forward pass. Each has a seed of its own, so that draws are independent and a long row of
them can be split into tasks anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.estimators.interface import EstimatorOptions, estimate_trace
from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.jacobian import signs
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.measured.isolation import leaving_no_trace
from spectral_reach.measured.linearisation import Linearisation, linearise
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.parameters import select_parameters
from spectral_reach.studies.config import check, check_types
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.study_folder import run_path
from spectral_reach.studies.tasks.registry import OnShare, register
from spectral_reach.studies.training.run_config import check_data
from spectral_reach.studies.training.snapshot import load_snapshot

ONE_FOR_ALL = "one_for_all"
"""The paper's code: norms by unit, with one and the same probe for every unit."""
WAYS = ("batch", "per_unit", ONE_FOR_ALL)

# Measured on one core of a 2-core cloud machine, as in ``studies.cost``: a draw of ``batch`` against FLOPs.
_FLOPS_PER_SECOND = 6e10
_SECONDS_A_DRAW = 0.004
_SECONDS_TO_START = 1.0
_AGAINST_BATCH = {"batch": 1.0, "per_unit": 0.65, ONE_FOR_ALL: 0.7}
_MEMORY = 2**28
# The first word of a SeedSequence says what the numbers are for.
_DRAWS = 3


@register("trace_draws")
@dataclass(frozen=True, kw_only=True, slots=True)
class TraceDraws:
    """Draws ``first`` to ``first + draws`` of one row.

    Attributes:
        run: whose model, by the name of its folder.
        step: the snapshot of it.
        way: ``batch`` (one probe over all units, Hutchinson's estimator), ``per_unit`` (an independent probe for each)
            or ``one_for_all`` (one probe, the same for every unit, and norms by unit).
        units: how many of the sequences a draw measures, chosen anew each time; 0 for all. For ``per_unit``.
        sequences: of the batch, the same for every row of a study.
        first: number of the first draw.
        draws: how many.
        seed: of the batch and, with the number, of each draw.
        tokens: of a sequence; ``parameters``: of the model. Known from the run; here for the expected cost.
    """

    run: str
    step: int
    way: str
    units: int
    sequences: int
    first: int
    draws: int
    seed: int
    tokens: int
    parameters: int

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "way", self.way in WAYS, " or ".join(WAYS))
        check(self, "sequences", self.sequences >= 2, "at least 2")
        check(self, "units", self.units == 0 or self.way == "per_unit", "0, for all, unless the way is per_unit")
        check(self, "units", 0 <= self.units <= self.sequences, f"at most the {self.sequences} sequences")
        check(self, "first", self.first >= 0, "at least 0")
        check(self, "draws", self.draws >= 1, "at least 1")

    @property
    def seconds(self) -> float:
        """A backward pass a draw, and a start."""
        share = (self.units or self.sequences) / self.sequences
        flops = 4 * self.parameters * self.sequences * self.tokens * share
        a_draw = _SECONDS_A_DRAW + _AGAINST_BATCH[self.way] * flops / _FLOPS_PER_SECOND
        return _SECONDS_TO_START + self.draws * a_draw

    def execute(self, study: Path, on_share: OnShare) -> Mapping[str, Any]:
        """Each draw's ``chi_net`` (normalised) and ``seconds``, arrays of equal length; the forward pass apart."""
        model, config = load_snapshot(run_path(study, self.run), self.step)
        data = config.data.load()
        check_data(config, data)
        batch = measurement_batch(data, 0, seed=self.seed, units=self.sequences)
        drawn = np.empty(self.draws)
        seconds = np.empty(self.draws)
        with leaving_no_trace(model):
            linearisation = linearise(
                model, batch, resolve_loss("cross_entropy"), select_parameters(model, None), seed=self.seed
            )
            draw = self._draw(linearisation)
            # What is found once for a model (the structure of its graph) is not part of a draw's cost.
            draw(0)
            for k in range(self.draws):
                began = time.perf_counter()
                drawn[k] = draw(self._seed_of(self.first + k))
                seconds[k] = time.perf_counter() - began
                on_share((k + 1) / self.draws)
        return {"chi_net": drawn, "seconds": seconds}

    def _seed_of(self, number: int) -> int:
        """Of one draw: rows of different models and estimators share none."""
        row = int.from_bytes(f"{self.run} {self.step} {self.way} {self.units}".encode(), "big")
        entropy = [_DRAWS, self.seed, row, number]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) & (2**63 - 1)

    def _draw(self, linearisation: Linearisation) -> Callable[[int], float]:
        if self.way == ONE_FOR_ALL:
            return _one_for_all(linearisation)
        units = self.units or None

        def draw(seed: int) -> float:
            options = EstimatorOptions(probes=1, units=units, seed=seed, memory_budget=_MEMORY)
            return estimate_trace(self.way, linearisation, options).chi_net

        return draw


def _one_for_all(linearisation: Linearisation) -> Callable[[int], float]:
    """sum_i ||J_i^T v||^2 / N with the same random signs v (T, K) for every unit; all have T samples."""
    backward = UnitBackward.of(linearisation)
    if backward.reason:
        raise ValueError(
            f"the units of this model cannot be told apart: {backward.reason}; expected a model of rows that do not "
            f"see each other. Leave out the way {ONE_FOR_ALL!r}."
        )
    f = linearisation.f
    shape = (linearisation.n_samples // linearisation.n_units, linearisation.n_outputs)

    def draw(seed: int) -> float:
        random = generator(seed, "probes", f.device)
        v = signs(f.new_empty(shape), random)
        norms = backward.squared_norms(v.repeat(linearisation.n_units, 1))
        return float(norms.sum()) / linearisation.n_samples

    return draw
