"""The figures by name. A new one is a file of this room with a ``draw`` function, and a line here.

Looking at the list imports no matplotlib: a figure's file is imported when it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureEntry:
    """One figure: what it is called, what it shows, the study that it is drawn from, and the module that draws it."""

    name: str
    shows: str
    study: str
    module: str

    def draw(
        self, study: Path | str, out: Path | str | None = None, formats: Sequence[str] | None = None
    ) -> tuple[Path, ...]:
        """Draw the figure of a study folder into ``out`` (default: its own ``figures/``); returns the files written.

        Raises:
            ValueError: an unknown format, or nothing to draw yet.
            ForeignFolderError: the folder is not a study of this library, or cannot be read.
            RecordError: the output folder cannot be written.
        """
        module = import_module(self.module)
        folder = Path(study) / "figures" if out is None else Path(out)
        files: tuple[Path, ...] = module.draw(Path(study), folder, formats)
        return files


FIGURES = {
    entry.name: entry
    for entry in (
        FigureEntry(
            name="fig1",
            shows="train loss with its frontier, and spectral position, against compute (the paper's Figure 1)",
            study="scaling",
            module="spectral_reach.figures.fig1",
        ),
        FigureEntry(
            name="fig3",
            shows="random features on power-law data: components and spectra, measured and predicted (Figure 3)",
            study="random-features",
            module="spectral_reach.figures.fig3",
        ),
        FigureEntry(
            name="fig6",
            shows="how Hutchinson's estimator of chi_net, and ours, converge on a trained Llama (Figure 6)",
            study="convergence",
            module="spectral_reach.figures.fig6",
        ),
        FigureEntry(
            name="fig12",
            shows="the empirical kernel's spectrum and the loss gradient on it, before and after training (Figure 12)",
            study="spectra",
            module="spectral_reach.figures.fig12",
        ),
        FigureEntry(
            name="loss-reduction",
            shows="where in the spectrum of the full output space the loss is reduced, along training and by size",
            study="loss-reduction",
            module="spectral_reach.figures.loss_reduction",
        ),
    )
}


def figure(name: str) -> FigureEntry:
    """The figure of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in FIGURES:
        raise ValueError(
            f"got figure {name!r}, expected one of {', '.join(sorted(FIGURES))}; see `spectral-reach figure`."
        )
    return FIGURES[name]
