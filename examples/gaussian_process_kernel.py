"""Which modes of a Gaussian-process prior does fitting the targets reduce first?

A kernel method that follows the gradient of its squared loss learns mode k of the kernel at a rate proportional to the
eigenvalue p_k. Of what a first step takes off the loss, mode k has the share gamma_k^2 p_k / chi_pos. The same numbers
that ``sr.spectrum`` gives of a network's tangent kernel, ``sr.kernel_decompose`` gives of any kernel; here those of
scikit-learn.

    python examples/gaussian_process_kernel.py [--points 200] [--out kernels.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.gaussian_process.kernels import RBF, Kernel, Matern, RationalQuadratic, WhiteKernel

import spectral_reach as sr

KERNELS: dict[str, Kernel] = {
    "RBF": RBF(length_scale=0.2),
    "Matern 5/2": Matern(length_scale=0.2, nu=2.5),
    "Matern 1/2": Matern(length_scale=0.2, nu=0.5),
    "rational quadratic": RationalQuadratic(length_scale=0.2, alpha=0.5),
    "RBF + noise": RBF(length_scale=0.2) + WhiteKernel(noise_level=0.1),
}
TIMES = np.geomspace(1e-2, 1e8, 1001)


def targets(x: np.ndarray) -> np.ndarray:
    """A slow wave and a fast one: a smooth prior has the slow one among its first modes, the fast one far down."""
    return np.sin(2 * np.pi * x) + 0.5 * np.sin(16 * np.pi * x)


def decompose(points: int) -> dict[str, sr.Spectrum]:
    """The spectrum of each kernel under the loss (1/2n) sum (f - y)^2 at f = 0, whose gradient is -y / n."""
    x = np.linspace(0, 1, points)
    gradient = -targets(x) / points
    return {name: sr.kernel_decompose(kernel(x[:, None]), gradient) for name, kernel in KERNELS.items()}


def fitted(found: sr.Spectrum, times: np.ndarray) -> np.ndarray:
    """The share of the squared targets that gradient flow has fitted, in units in which a mode of p = 1 takes 1.

    The residual along mode k falls as exp(-p_k t), so that sum_k gamma_k^2 exp(-2 p_k t) of its square is left.
    """
    left: np.ndarray = np.exp(-2 * np.outer(times, found.p)) @ found.gamma2
    return 1 - left


def time_to_fit(found: sr.Spectrum, share: float) -> str:
    """The first time at which this share is fitted, in words."""
    enough = fitted(found, TIMES) >= share
    return f"{TIMES[np.argmax(enough)]:.2g}" if enough.any() else f"> {TIMES[-1]:.0e}"


def table(spectra: dict[str, sr.Spectrum]) -> str:
    """A line for each kernel. The slow wave is four fifths of the squared targets: the fast one comes after 80%.

    In one dimension the eigenvalues of a Matern kernel fall as k^-(2 nu + 1); those of an RBF faster than any power.
    """
    lines = [f"{'kernel':<20}{'chi_pos':>9}{'effective rank':>16}{'50% fitted':>12}{'95% fitted':>12}   tail exponent"]
    for name, found in spectra.items():
        tail = found.tail()
        law = "too few above rounding" if tail.undefined else f"{tail.exponent:.1f} [{tail.low:.1f}, {tail.high:.1f}]"
        slow, fast = time_to_fit(found, 0.5), time_to_fit(found, 0.95)
        lines.append(f"{name:<20}{found.chi_pos:>9.3f}{found.effective_rank:>16.1f}{slow:>12}{fast:>12}   {law}")
    return "\n".join(lines)


def draw(spectra: dict[str, sr.Spectrum], file: Path) -> None:
    """The modes of each kernel, and how its gradient flow fits the targets: wave by wave."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    modes, flow = figure.subplots(1, 2)
    for name, found in spectra.items():
        k = np.arange(1, len(found.p) + 1)
        above = found.p > found.rounding
        modes.loglog(k[above], found.p[above], label=name)
        flow.semilogx(TIMES, fitted(found, TIMES))
    modes.set(xlabel="mode $k$", ylabel="normalised eigenvalue $p_k$", ylim=(1e-9, 1.5))
    flow.set(xlabel="time of gradient flow", ylabel="share of targets fitted", ylim=(0, 1.02))
    figure.legend(loc="outside upper center", ncols=len(spectra), frameon=False, fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=200)


def main() -> None:
    """Decompose the kernels, print the table, draw the figure if a file was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200, help="inputs, evenly spaced (200)")
    parser.add_argument("--out", type=Path, help="draw a figure here (.png, .pdf or .svg)")
    arguments = parser.parse_args()
    if arguments.points < 40:
        parser.error(f"--points is {arguments.points}; expected 40 or more, so that the fast wave is resolved")
    spectra = decompose(arguments.points)
    print(table(spectra))
    if arguments.out is not None:
        draw(spectra, arguments.out)
        print(f"Drawn in {arguments.out}")


if __name__ == "__main__":
    main()
