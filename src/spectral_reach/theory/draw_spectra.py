"""The spectrum of one draw's eNTK, through ``sr.spectrum`` as any network's, beside that of the limit kernel."""

from __future__ import annotations

from dataclasses import dataclass

from spectral_reach.spectra.spectrum import spectrum
from spectral_reach.theory.draw import DrawnProblem
from spectral_reach.theory.predictions import FloatArray, normalised_eigenvalues


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DrawnSpectra:
    """Normalised eigenvalues on the same inputs, (n,) float64 each, descending, with sum 1.

    Attributes:
        network: of phi phi^T / m. Its rank is at most m, and where n is no longer small beside m its tail spreads as
            sample covariances do: a flat tail by the factors (1 -+ sqrt(n / m))^2.
        limit: of the arc-cosine kernel.
    """

    network: FloatArray
    limit: FloatArray


def measure_spectra(problem: DrawnProblem, inputs: int) -> DrawnSpectra:
    """The spectra on the first ``inputs`` inputs of a draw.

    Raises:
        ValueError: there are not so many.
    """
    available = len(problem.inputs)
    if not 1 <= inputs <= available:
        raise ValueError(f"inputs is {inputs}; expected 1 to {available}, the inputs of the draw")
    batch = (problem.inputs[:inputs], problem.targets[0, :inputs])
    return DrawnSpectra(
        network=spectrum(problem.network, batch, loss="mse", method="explicit").p,
        limit=normalised_eigenvalues(problem.kernel[:inputs, :inputs]),
    )
