"""A spectrum in words, for people at a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spectral_reach.spectra.result import Spectrum

QUANTILES = (0.1, 0.5, 0.9)


def table(spectrum: Spectrum) -> str:
    """A line a value, quantiles with what is certain of them."""
    lines = [f"Spectrum: {_head(spectrum)}", _line("chi_loss", spectrum.chi_loss)]
    error = spectrum.chi_net_stderr
    lines.append(_line("chi_net", spectrum.chi_net, f" ± {error:.2g}" if error > 0 else ""))
    lines.append(_line("chi_pos", spectrum.chi_pos))
    if spectrum.share_of_loss_gradient < 1:
        lines.append(f"  these outputs hold {spectrum.share_of_loss_gradient:.1%} of the squared loss gradient")
    if spectrum.chi_pos > 0:
        lines += [_quantile(spectrum, q) for q in QUANTILES]
        if not spectrum.converged and spectrum.tolerance > 0:
            lines.append(f"  not within the tolerance of {spectrum.tolerance:g} yet: more steps narrow the bounds")
    if spectrum.method == "explicit":
        lines.append(_line("participation ratio", spectrum.participation_ratio))
        lines.append(_line("effective rank", spectrum.effective_rank))
        tail = spectrum.tail()
        if not tail.undefined:
            where = f"  [{tail.low:.2f}, {tail.high:.2f}] over modes {tail.first} to {tail.last}"
            lines.append(_line("tail exponent", tail.exponent, where))
    elif spectrum.density is not None:
        for name in ("participation_ratio", "effective_rank"):
            found = getattr(spectrum.density, name)
            spread = " (one vector has no spread)" if math.isnan(found.stderr) else f" ± {found.stderr:.2g}"
            lines.append(_line(name.replace("_", " "), found.value, spread))
    lines += [f"  {name} is undefined: {why}" for name, why in spectrum.undefined.items()]
    return "\n".join(lines)


def _head(spectrum: Spectrum) -> str:
    space = f"{spectrum.n_modes:,} outputs ({spectrum.n_samples:,} samples x {spectrum.n_outputs:,})"
    if spectrum.method == "explicit":
        return f"every mode of {space}"
    end = ", exhausted: exact" if spectrum.krylov is not None and spectrum.krylov.exhausted else ""
    return f"{spectrum.steps} Lanczos steps over {space}{end}"


def _line(name: str, value: float, rest: str = "") -> str:
    return f"  {name:<20} {value:.6g}{rest}"


def _quantile(spectrum: Spectrum, q: float) -> str:
    value, bounds = spectrum.position_quantile(q), spectrum.position_bounds(q)
    rest = "" if bounds.low == bounds.high else f"  [{bounds.low:.2g}, {_high(bounds.high)}]"
    return _line(f"{q:.0%} of the reduction", value, rest)


def _high(value: float) -> str:
    return "?" if math.isinf(value) else f"{value:.2g}"
