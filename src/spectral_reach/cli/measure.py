"""``spectral-reach measure``: one decomposition of a model on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from spectral_reach.cli.terminal import stderr, stdout

_SUFFIXES = (".json", ".parquet")


def measure(
    model: Annotated[Path, typer.Argument(help="Run folder, or local Hugging Face folder (causal LM, safetensors).")],
    data: Annotated[
        str | None, typer.Option(help="Data set: NAME, or NAME:PATH for one on disk.", show_default="the run's own")
    ] = None,
    vocabulary: Annotated[int | None, typer.Option(min=1, help="Tokens to learn, for stdlib.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence, for stdlib.")] = None,
    units: Annotated[int, typer.Option(min=1, help="Training units (sequences, images) to measure on.")] = 32,
    estimator: Annotated[str, typer.Option(help="Of chi_net: exact, batch or auto.")] = "auto",
    probes: Annotated[int, typer.Option(min=1, help="Random probes; two or more give a standard error.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of sequences and of the probes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the numbers here too (.json or .parquet).")] = None,
) -> None:
    """Take the loss change of a model apart: loss, network and position, with error bars."""
    if out is not None and out.suffix not in _SUFFIXES:
        raise ValueError(f"--out is {out}; expected a file name that ends in {' or '.join(_SUFFIXES)}.")
    with stderr().status(f"Measuring {model}"):
        from spectral_reach.cli.subject import load_subject
        from spectral_reach.decomposition.decompose import decompose
        from spectral_reach.estimators import check_name

        check_name(estimator)
        subject = load_subject(model, data=data, vocabulary=vocabulary, context=context, units=units, seed=seed)
        result = decompose(subject.network, subject.batch, estimator=estimator, probes=probes, seed=seed)
    console = stdout()
    console.print(subject.heading, markup=False)
    console.print(str(result), markup=False, soft_wrap=True)
    if out is not None:
        _write(out, {**subject.about, **result.as_dict()})
        console.print(f"Written to {out}", markup=False)


def _write(file: Path, row: Mapping[str, Any]) -> None:
    """One row of numbers; what is not defined is null in JSON and NaN in Parquet, beside its reason."""
    if file.suffix == ".json":
        from spectral_reach.cli.numbers import write_json

        write_json(file, row)
    else:
        import pyarrow.parquet as pq

        from spectral_reach.records.atomic import make_folder, write_atomically
        from spectral_reach.records.columns import encode

        make_folder(file.parent)
        write_atomically(file, lambda temporary: pq.write_table(encode([row]), temporary))
