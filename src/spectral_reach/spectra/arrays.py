"""A spectrum as named arrays and back, for files that hold nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spectral_reach.spectra.density import Density
from spectral_reach.spectra.krylov import Bidiagonal, Krylov, Tridiagonal
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
    arrays = {name: np.array(getattr(spectrum, name)) for name in _NUMBERS}
    arrays |= {"p": spectrum.p, "gamma2": spectrum.gamma2}
    if spectrum.eigenvectors is not None:
        arrays["eigenvectors"] = spectrum.eigenvectors
    if spectrum.krylov is not None:
        arrays |= _of_krylov("krylov", (spectrum.krylov,))
    if spectrum.density is not None:
        arrays |= _of_krylov("density", spectrum.density.krylov)
    about: dict[str, Any] = {"format": FORMAT, "method": spectrum.method, "undefined": dict(spectrum.undefined)}
    # Some arrays are there for some spectra only: without their names, a lost one would not be missed.
    about["arrays"] = sorted(arrays)
    return {"about": np.array(json.dumps(about)), **arrays}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Spectrum:
    """The spectrum that ``to_arrays`` took apart.

    Raises:
        ValueError: the arrays are none of a spectrum, or of one of another version.
    """
    about = _about(arrays)
    if about.get("format") != FORMAT:
        raise ValueError(
            f"the arrays are no spectrum of this version: got format {about.get('format')!r}, expected {FORMAT!r}; "
            "make it again"
        )
    if missing := sorted({*_NUMBERS, "p", "gamma2", *about.get("arrays", ())} - arrays.keys()):
        raise ValueError(f"the arrays of a spectrum are not all there: {', '.join(missing)} missing; make it again")
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


def _about(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the arrays say of themselves; nothing if they are not ours."""
    try:
        about = json.loads(str(arrays["about"]))
    except (KeyError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _of_krylov(name: str, each: Sequence[Krylov]) -> dict[str, np.ndarray]:
    """Two rows a process, of different lengths, one after the other; Lanczos has an entry fewer in the second."""
    arrays = {f"{name}_exhausted": np.array([one.exhausted for one in each])}
    pairs = [("alphas", "betas") if isinstance(one, Bidiagonal) else ("diagonal", "off_diagonal") for one in each]
    for row in (0, 1):
        parts = [getattr(one, names[row]) for one, names in zip(each, pairs, strict=True)]
        arrays[f"{name}_{row}"] = np.concatenate(parts)
        arrays[f"{name}_{row}_lengths"] = np.array([len(part) for part in parts])
    return arrays


def _krylov(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[Krylov, ...]:
    if f"{name}_exhausted" not in arrays:
        return ()
    rows = [np.split(arrays[f"{name}_{row}"], np.cumsum(arrays[f"{name}_{row}_lengths"])[:-1]) for row in (0, 1)]
    found: list[Krylov] = []
    for first, second, exhausted in zip(*rows, arrays[f"{name}_exhausted"].tolist(), strict=True):
        if len(first) == len(second):
            found.append(Bidiagonal(alphas=first, betas=second, exhausted=exhausted))
        else:
            found.append(Tridiagonal(diagonal=first, off_diagonal=second, exhausted=exhausted))
    return tuple(found)
