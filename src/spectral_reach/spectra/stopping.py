"""When a Krylov process has told enough: once the quantiles of the loss reduction are certain within a tolerance."""

from __future__ import annotations

from collections.abc import Callable

from spectral_reach.spectra.krylov import Krylov
from spectral_reach.spectra.options import LanczosOptions
from spectral_reach.spectra.quadrature import ReductionBounds


def is_certain(krylov: Krylov, options: LanczosOptions) -> bool:
    """Whether every quantile is known within the relative width ``tolerance``; an exhausted process knows them all."""
    if krylov.exhausted:
        return True
    bounds = ReductionBounds(krylov)
    found = (bounds.quantile(q) for q in options.quantiles)
    return all(each.high <= each.low * (1 + options.tolerance) for each in found)


def stop_when_certain(
    options: LanczosOptions, report: Callable[[int], None] = lambda _: None
) -> Callable[[Krylov], bool]:
    """What a process asks after every step; ``report`` is told the steps."""

    def enough(krylov: Krylov) -> bool:
        report(krylov.steps)
        # Every bound takes dozens of small eigendecompositions: looked at now and then.
        due = krylov.steps % max(4, krylov.steps // 4) == 0
        return options.tolerance > 0 and due and is_certain(krylov, options)

    return enough
