"""A spectrum as named arrays and back, for files that hold nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from spectral_reach.spectra.bidiagonal import Bidiagonal
from spectral_reach.spectra.density import Density
from spectral_reach.spectra.result import Spectrum

FORMAT = "spectral-reach spectrum 1"

_NUMBERS = (
    "loss",
    "chi_loss",
    "chi_net",
    "chi_net_stderr",
    "delta_loss",
    "n_samples",
    "n_outputs",
    "n_parameters",
    "share_of_loss_gradient",
    "rounding",
    "tolerance",
    "converged",
)


def to_arrays(spectrum: Spectrum) -> dict[str, np.ndarray]:
    """Everything that a spectrum holds; ``from_arrays`` reads it back, bit for bit."""
    about: dict[str, Any] = {"format": FORMAT, "method": spectrum.method, "undefined": dict(spectrum.undefined)}
    arrays = {name: np.array(getattr(spectrum, name)) for name in _NUMBERS}
    arrays |= {"about": np.array(json.dumps(about)), "p": spectrum.p, "gamma2": spectrum.gamma2}
    if spectrum.eigenvectors is not None:
        arrays["eigenvectors"] = spectrum.eigenvectors
    if spectrum.krylov is not None:
        arrays |= _of_krylov("krylov", (spectrum.krylov,))
    if spectrum.density is not None:
        arrays |= _of_krylov("density", spectrum.density.krylov)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Spectrum:
    """The spectrum that ``to_arrays`` took apart.

    Raises:
        ValueError: the arrays are none of a spectrum, or of one of another version.
    """
    about = json.loads(str(arrays["about"])) if "about" in arrays else {}
    if about.get("format") != FORMAT:
        raise ValueError(
            f"the arrays are no spectrum of this version: got format {about.get('format')!r}, expected {FORMAT!r}; "
            "make it again"
        )
    numbers = {name: arrays[name].item() for name in _NUMBERS}
    krylov = _krylov("krylov", arrays)
    density = _krylov("density", arrays)
    n_modes, trace = numbers["n_samples"] * numbers["n_outputs"], numbers["chi_net"] * numbers["n_samples"]
    return Spectrum(
        method=about["method"],
        p=arrays["p"],
        gamma2=arrays["gamma2"],
        eigenvectors=arrays.get("eigenvectors"),
        krylov=krylov[0] if krylov else None,
        density=Density(modes=n_modes, trace=trace, krylov=density) if density else None,
        undefined=about["undefined"],
        **numbers,
    )


def _of_krylov(name: str, each: tuple[Bidiagonal, ...]) -> dict[str, np.ndarray]:
    return {
        f"{name}_steps": np.array([one.steps for one in each]),
        f"{name}_exhausted": np.array([one.exhausted for one in each]),
        f"{name}_alphas": np.concatenate([one.alphas for one in each]),
        f"{name}_betas": np.concatenate([one.betas for one in each]),
    }


def _krylov(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[Bidiagonal, ...]:
    if f"{name}_steps" not in arrays:
        return ()
    ends = np.cumsum(arrays[f"{name}_steps"])[:-1]
    parts = zip(
        np.split(arrays[f"{name}_alphas"], ends),
        np.split(arrays[f"{name}_betas"], ends),
        arrays[f"{name}_exhausted"],
        strict=True,
    )
    return tuple(Bidiagonal(alphas=alphas, betas=betas, exhausted=bool(end)) for alphas, betas, end in parts)
