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
    """One figure: what it is called, what it shows, the studies that it is drawn from, and the module that draws it.

    A figure that compares families takes other studies of families too, such as the demo's: what counts is what a
    folder holds. One without studies is drawn from run folders that a tracker or a callback has left.
    """

    name: str
    shows: str
    studies: tuple[str, ...]
    module: str

    def draw(
        self,
        studies: Path | str | Sequence[Path | str],
        out: Path | str | None = None,
        formats: Sequence[str] | None = None,
    ) -> tuple[Path, ...]:
        """Draw the figure of one study or run folder, or of several, into ``out``; returns the files written.

        ``out`` is by default the folder ``figures`` in that one, of several the one beside the first.

        Raises:
            NothingToDrawError: nothing to draw yet.
            ValueError: an unknown format, or a number of folders that the figure cannot be drawn from.
            ForeignFolderError: a folder is not a study of this library or not one for this figure, or cannot be read.
            RecordError: the output folder cannot be written.
        """
        folders = [Path(studies)] if isinstance(studies, Path | str) else [Path(folder) for folder in studies]
        if not folders:
            expected = f"one of {' or '.join(self.studies)}" if self.studies else "a run folder"
            raise ValueError(f"{self.name} got no folder; expected {expected}.")
        home = folders[0] if len(folders) == 1 else folders[0].parent
        files: tuple[Path, ...] = import_module(self.module).draw(
            folders, home / "figures" if out is None else Path(out), formats
        )
        return files


FIGURES = {
    entry.name: entry
    for entry in (
        FigureEntry(
            name="fig1",
            shows="train loss with its frontier, and spectral position, against compute (the paper's Figure 1)",
            studies=("scaling-text", "scaling-pixels"),
            module="spectral_reach.figures.fig1",
        ),
        FigureEntry(
            name="fig3",
            shows="random features on power-law data: components and spectra, measured and predicted (Figure 3)",
            studies=("random-features",),
            module="spectral_reach.figures.fig3",
        ),
        FigureEntry(
            name="fig4",
            shows="late spectral position of probes on random over that on pre-trained backbones, by size (Figure 4)",
            studies=("probes",),
            module="spectral_reach.figures.fig4",
        ),
        FigureEntry(
            name="fig5",
            shows="chi_net in full training and in probing on a random backbone, by size (Figure 5)",
            studies=("probes",),
            module="spectral_reach.figures.fig5",
        ),
        FigureEntry(
            name="fig6",
            shows="how Hutchinson's estimator of chi_net, and ours, converge on a trained Llama (Figure 6)",
            studies=("convergence",),
            module="spectral_reach.figures.fig6",
        ),
        FigureEntry(
            name="fig7",
            shows="chi_loss, chi_net, chi_pos and their product against compute by size (Figure 7)",
            studies=("scaling-text", "scaling-pixels"),
            module="spectral_reach.figures.fig7",
        ),
        FigureEntry(
            name="fig8",
            shows="loss and spectral position on training and on held-out data (Figure 8)",
            studies=("scaling-text", "scaling-pixels"),
            module="spectral_reach.figures.fig8",
        ),
        FigureEntry(
            name="fig9",
            shows="vision transformers in standard parametrisation and in muP: loss and spectral position (Figure 9)",
            studies=("vit", "vit-mup"),
            module="spectral_reach.figures.fig9",
        ),
        FigureEntry(
            name="fig10",
            shows="isocompute curves: held-out loss and spectral position against size at fixed FLOPs (Figure 10)",
            studies=("scaling-text", "scaling-pixels"),
            module="spectral_reach.figures.fig10",
        ),
        FigureEntry(
            name="fig11",
            shows="chi_net * chi_pos and its factors over their early peak, and which of them governs it (Figure 11)",
            studies=("scaling-text", "scaling-pixels"),
            module="spectral_reach.figures.fig11",
        ),
        FigureEntry(
            name="fig12",
            shows="the empirical kernel's spectrum and the loss gradient on it, before and after training (Figure 12)",
            studies=("spectra",),
            module="spectral_reach.figures.fig12",
        ),
        FigureEntry(
            name="coordinate-check",
            shows="sizes of activations and best learning rates against width, standard parametrisation and muP",
            studies=("coordinate-check",),
            module="spectral_reach.figures.coordinate_check",
        ),
        FigureEntry(
            name="loss-reduction",
            shows="where in the spectrum of the full output space the loss is reduced, along training and by size",
            studies=("loss-reduction",),
            module="spectral_reach.figures.loss_reduction",
        ),
    )
}


OF_RUNS = {
    entry.name: entry
    for entry in (
        FigureEntry(
            name="fig2",
            shows="what the optimiser's updates did to the loss, summed up: linear part and correction (Figure 2)",
            studies=(),
            module="spectral_reach.figures.fig2",
        ),
    )
}
"""Figures of anybody's trainings: no study is behind them."""


def figure(name: str) -> FigureEntry:
    """The figure of this name.

    Raises:
        ValueError: there is none.
    """
    known = FIGURES | OF_RUNS
    if name not in known:
        raise ValueError(
            f"got figure {name!r}, expected one of {', '.join(sorted(known))}; see `spectral-reach figure`."
        )
    return known[name]
