"""Where in the spectrum of the empirical neural tangent kernel is a network learning right now?

The public surface. Names resolve on first use, so that importing the package costs nothing beyond Python itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectral_reach.checkpoints.measure_checkpoints import measure_checkpoints as measure_checkpoints
    from spectral_reach.decomposition.decompose import decompose as decompose
    from spectral_reach.decomposition.result import Decomposition as Decomposition
    from spectral_reach.decomposition.result import RawDecomposition as RawDecomposition
    from spectral_reach.decomposition.update_effect import UpdateEffect as UpdateEffect
    from spectral_reach.spectra.kernel_decompose import kernel_decompose as kernel_decompose
    from spectral_reach.spectra.operator import ntk_operator as ntk_operator
    from spectral_reach.spectra.result import Spectrum as Spectrum
    from spectral_reach.spectra.spectrum import spectrum as spectrum
    from spectral_reach.tracking.early_warnings import EarlyWarning as EarlyWarning
    from spectral_reach.tracking.early_warnings import early_warnings as early_warnings
    from spectral_reach.tracking.schedule import log_windows as log_windows
    from spectral_reach.tracking.tracker import Tracker as Tracker

__version__ = "0.1.0"

_HOME_OF = {
    "decompose": "spectral_reach.decomposition.decompose",
    "Decomposition": "spectral_reach.decomposition.result",
    "EarlyWarning": "spectral_reach.tracking.early_warnings",
    "RawDecomposition": "spectral_reach.decomposition.result",
    "Spectrum": "spectral_reach.spectra.result",
    "Tracker": "spectral_reach.tracking.tracker",
    "UpdateEffect": "spectral_reach.decomposition.update_effect",
    "early_warnings": "spectral_reach.tracking.early_warnings",
    "kernel_decompose": "spectral_reach.spectra.kernel_decompose",
    "ntk_operator": "spectral_reach.spectra.operator",
    "measure_checkpoints": "spectral_reach.checkpoints.measure_checkpoints",
    "spectrum": "spectral_reach.spectra.spectrum",
    "log_windows": "spectral_reach.tracking.schedule",
}

__all__ = [
    "Decomposition",
    "EarlyWarning",
    "RawDecomposition",
    "Spectrum",
    "Tracker",
    "UpdateEffect",
    "__version__",
    "decompose",
    "early_warnings",
    "kernel_decompose",
    "log_windows",
    "measure_checkpoints",
    "ntk_operator",
    "spectrum",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'spectral_reach' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
