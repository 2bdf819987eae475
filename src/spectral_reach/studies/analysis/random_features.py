"""The results of a random-features study, pooled over seeds: measured components beside the predicted ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spectral_reach.records.results import Results
from spectral_reach.studies.analysis.estimate import Estimate, FloatArray, mean
from spectral_reach.studies.study_folder import read_header

STUDY = "random-features"

# What issue 4 asks of the measurement.
TOLERANCE_OF_UNITY = 0.02
TOLERANCE_OF_POSITION = 0.03


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExponentResult:
    """All draws of one exponent.

    Attributes:
        exponent: beta.
        draws: how many there are so far.
        chi_loss, chi_net, chi_pos: means over the draws with their standard errors; in a draw, chi_pos is the ratio of
            means over its teachers.
        predicted_chi_pos: sum_k p_k^2 of the arc-cosine kernel on each draw's inputs, mean over the draws.
        excess: of chi_pos over the prediction of its own draw, relative to the mean prediction.
        covariance: eigenvalues s_k, (d,).
        p_network: normalised eigenvalues of the eNTK, mean over the draws, (n,).
        p_limit: of the arc-cosine kernel on the same inputs.
    """

    exponent: float
    draws: int
    chi_loss: Estimate
    chi_net: Estimate
    chi_pos: Estimate
    predicted_chi_pos: float
    excess: Estimate
    covariance: FloatArray
    p_network: FloatArray
    p_limit: FloatArray

    @property
    def allowed_excess(self) -> float:
        """One standard error of chi_pos and 3%, relative to the prediction; NaN for one draw, which has no error."""
        return self.chi_pos.stderr / self.predicted_chi_pos + TOLERANCE_OF_POSITION

    @property
    def holds(self) -> bool:
        """chi_loss and chi_net within 2% of 1, and chi_pos within ``allowed_excess``."""
        unity = all(abs(each.value - 1) <= TOLERANCE_OF_UNITY for each in (self.chi_loss, self.chi_net))
        return unity and abs(self.excess.value) <= self.allowed_excess


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RandomFeaturesResult:
    """A study, finished or not; exponents ascending, without those that have no result yet."""

    preset: str
    settings: Mapping[str, Any]
    exponents: tuple[ExponentResult, ...]

    @property
    def draws(self) -> int:
        """There are so far."""
        return sum(each.draws for each in self.exponents)

    @property
    def planned(self) -> int:
        """Draws that the study is to make."""
        return int(self.settings["seeds"]) * len(self.settings["exponents"])


def read_random_features(folder: Path | str) -> RandomFeaturesResult:
    """Read and pool the results that there are.

    Raises:
        ForeignFolderError: the folder is no study of random features.
        RecordError: a result cannot be read.
    """
    header = read_header(Path(folder), STUDY)
    results = Results(folder)
    have = set(results.names())
    by_exponent: dict[float, list[Mapping[str, Any]]] = {}
    for name in header["tasks"]:
        if name in have:
            result = results.load(name)
            by_exponent.setdefault(result.task["settings"]["exponent"], []).append(result.values)
    return RandomFeaturesResult(
        preset=header["preset"],
        settings=header["settings"],
        exponents=tuple(_pooled(exponent, by_exponent[exponent]) for exponent in sorted(by_exponent)),
    )


def _pooled(exponent: float, parts: list[Mapping[str, Any]]) -> ExponentResult:
    def joined(name: str) -> FloatArray:
        values: FloatArray = np.concatenate([part[name] for part in parts])
        return values

    chi_pos, predicted = joined("chi_pos"), joined("predicted_chi_pos")
    return ExponentResult(
        exponent=exponent,
        draws=len(chi_pos),
        chi_loss=mean(joined("chi_loss")),
        chi_net=mean(joined("chi_net")),
        chi_pos=mean(chi_pos),
        predicted_chi_pos=float(predicted.mean()),
        excess=mean((chi_pos - predicted) / predicted.mean()),
        covariance=parts[0]["covariance"],
        p_network=joined("p_network").mean(0),
        p_limit=joined("p_limit").mean(0),
    )
