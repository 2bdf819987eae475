"""``spectral-reach spectrum``: the distribution behind chi_pos of a model on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectral_reach.cli.terminal import stderr, stdout

if TYPE_CHECKING:
    from spectral_reach.cli.subject import Subject
    from spectral_reach.spectra.result import Method, Spectrum

_SUFFIXES = (".npz", ".json")
_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_NUMBERS = (
    "method",
    "steps",
    "converged",
    "tolerance",
    "loss",
    "chi_loss",
    "chi_net",
    "chi_net_stderr",
    "chi_pos",
    "delta_loss",
    "n_samples",
    "n_outputs",
    "n_parameters",
    "share_of_loss_gradient",
    "rounding",
    "participation_ratio",
    "effective_rank",
)


def spectrum(
    model: Annotated[str, typer.Argument(help="Run folder, or local Hugging Face folder (causal LM, safetensors).")],
    step: Annotated[
        int | None,
        typer.Option(min=0, help="Of a run: its snapshot of this step.", show_default="the latest checkpoint"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set: NAME, or NAME:PATH for one on disk.", show_default="the run's own")
    ] = None,
    vocabulary: Annotated[int | None, typer.Option(min=1, help="Tokens to learn, for stdlib.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence, for stdlib.")] = None,
    units: Annotated[int, typer.Option(min=1, help="Training units (sequences, images) to look at.")] = 8,
    method: Annotated[
        str, typer.Option(help="lanczos: all outputs, certain bounds; explicit: every mode of some outputs.")
    ] = "lanczos",
    samples: Annotated[
        int | None, typer.Option(min=1, help="Random predicted tokens, so many.", show_default="all")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Random outputs of each, so many.", show_default="all")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="lanczos: at most so many steps.")] = 64,
    tolerance: Annotated[
        float, typer.Option(min=0, help="lanczos: stop once the quantiles are certain within this relative width.")
    ] = 0.1,
    density_vectors: Annotated[
        int, typer.Option(min=0, help="lanczos: random vectors for the density of all eigenvalues.")
    ] = 0,
    probes: Annotated[int, typer.Option(min=1, help="lanczos: random probes of the trace.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the sequences, the outputs and all that is drawn.")] = 0,
    memory_budget: Annotated[float, typer.Option(help="GiB, beside the model and its forward pass.")] = 4.0,
    out: Annotated[
        Path | None, typer.Option(help="Write everything (.npz, for Spectrum.load) or the numbers (.json) here.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it here (.png, .pdf or .svg).")] = None,
) -> None:
    """See which modes of the tangent kernel there are, and at which of them a gradient step lowers the loss."""
    if out is not None and out.suffix not in _SUFFIXES:
        raise ValueError(f"--out is {out}; expected a file name that ends in {' or '.join(_SUFFIXES)}.")
    if not 0 < memory_budget < math.inf:
        raise ValueError(f"--memory-budget is {memory_budget:g}; expected GiB above 0, for example 4.")
    budget = max(1, int(memory_budget * 2**30))
    with stderr().status(f"Reading {model}"):
        from spectral_reach.cli.spectrum_cost import explicit_cost, lanczos_cost, seconds_of_a_step
        from spectral_reach.cli.subject import load_subject
        from spectral_reach.records.atomic import make_folder
        from spectral_reach.spectra.options import check_method
        from spectral_reach.spectra.spectrum import spectrum as spectrum_of

        check_method(method)
        if figure is not None:
            _check_figure(figure)
        # Found out before minutes of work, not after.
        for file in (out, figure):
            if file is not None:
                make_folder(file.parent)
        subject = load_subject(
            model, step=step, data=data, vocabulary=vocabulary, context=context, units=units, seed=seed
        )
        n, k = samples or subject.batch[1].numel(), classes or subject.n_outputs
        one = seconds_of_a_step(subject.network, subject.batch)
        if method == "lanczos":
            cost = lanczos_cost(one, n * k, steps=steps, density_vectors=density_vectors, probes=probes)
        else:
            parameters = subject.network.num_parameters(only_trainable=True)
            cost = explicit_cost(one, subject.batch, n, k, parameters=parameters, budget=budget)
    console = stdout()
    console.print(subject.heading, markup=False)
    stderr().print(cost, markup=False)
    chosen: Method = "lanczos" if method == "lanczos" else "explicit"
    found = spectrum_of(
        subject.network,
        subject.batch,
        method=chosen,
        samples=samples,
        classes=classes,
        steps=steps,
        tolerance=tolerance,
        density_vectors=density_vectors,
        probes=probes,
        seed=seed,
        memory_budget=budget,
        progress=stderr().is_terminal,
    )
    console.print(str(found), markup=False, soft_wrap=True)
    if out is not None:
        _write(out, found, subject)
        console.print(f"Written to {out}", markup=False)
    if figure is not None:
        _draw(figure, found)
        console.print(f"Drawn in {figure}", markup=False)


def numbers(found: Spectrum) -> dict[str, Any]:
    """What a spectrum says, as JSON values; what is not defined is NaN."""
    values: dict[str, Any] = {name: getattr(found, name) for name in _NUMBERS}
    if found.density is not None:
        for name in ("participation_ratio", "effective_rank"):
            values[f"{name}_stderr"] = getattr(found.density, name).stderr
    if found.chi_pos > 0:
        values["position_quantiles"] = [_quantile(found, q) for q in _QUANTILES]
    if found.method == "explicit":
        tail = found.tail()
        fields = ("exponent", "low", "high", "first", "last", "undefined")
        values["tail"] = {name: getattr(tail, name) for name in fields}
    return {**values, "undefined": dict(found.undefined), "p": found.p.tolist(), "gamma2": found.gamma2.tolist()}


def _quantile(found: Spectrum, q: float) -> dict[str, float]:
    bounds = found.position_bounds(q)
    return {"q": q, "value": found.position_quantile(q), "low": bounds.low, "high": bounds.high}


def _write(file: Path, found: Spectrum, subject: Subject) -> None:
    if file.suffix == ".npz":
        found.save(file)
    else:
        from spectral_reach.records.atomic import make_folder, write_json_atomically
        from spectral_reach.records.finite import finite

        make_folder(file.parent)
        write_json_atomically(file, finite({**subject.about, "units": len(subject.batch[0]), **numbers(found)}))


def _check_figure(file: Path) -> None:
    from spectral_reach.figures.save import FORMATS

    if file.suffix.removeprefix(".") not in FORMATS:
        expected = ", ".join(f".{name}" for name in FORMATS)
        raise ValueError(f"--figure is {file}; expected a file name that ends in one of {expected}.")


def _draw(file: Path, found: Spectrum) -> None:
    from spectral_reach.figures.save import save_figure
    from spectral_reach.figures.style import style

    with style():
        save_figure(found.plot(), file.with_suffix(""), [file.suffix.removeprefix(".")])
