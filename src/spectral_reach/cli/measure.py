"""``spectral-reach measure``: one decomposition of a model on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectral_reach.cli.terminal import stderr, stdout

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from spectral_reach.studies.data import TokenData

_SUFFIXES = (".json", ".parquet")


def measure(
    model: Annotated[Path, typer.Argument(help="Run folder, or local Hugging Face folder (causal LM, safetensors).")],
    data: Annotated[str | None, typer.Option(help="Data set: stdlib or digits.", show_default="the run's own")] = None,
    vocabulary: Annotated[int | None, typer.Option(min=1, help="Tokens to learn, for stdlib.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence, for stdlib.")] = None,
    units: Annotated[int, typer.Option(min=1, help="Training sequences to measure on.")] = 32,
    estimator: Annotated[str, typer.Option(help="Of chi_net: exact, batch or auto.")] = "auto",
    probes: Annotated[int, typer.Option(min=1, help="Random probes; two or more give a standard error.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of sequences and of the probes.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the numbers here too (.json or .parquet).")] = None,
) -> None:
    """Take the loss change of a model apart: loss, network and position, with error bars."""
    if out is not None and out.suffix not in _SUFFIXES:
        raise ValueError(f"--out is {out}; expected a file name that ends in {' or '.join(_SUFFIXES)}.")
    with stderr().status(f"Measuring {model}"):
        from spectral_reach.cli.sources import find
        from spectral_reach.decomposition.decompose import decompose
        from spectral_reach.estimators import check_name
        from spectral_reach.studies.data.batches import measurement_batch

        check_name(estimator)
        source = find(model)
        options = {"vocabulary": vocabulary, "context": context}
        token_data = source.load_data(data, {name: value for name, value in options.items() if value is not None})
        network = source.load_model()
        _check_fit(network, token_data)
        batch = measurement_batch(token_data, source.step or 0, seed=seed, units=units)
        result = decompose(network, batch, estimator=estimator, probes=probes, seed=seed)
    where = "" if source.step is None else f" after {source.step} steps"
    console = stdout()
    console.print(f"{source.name}{where}, on {units} training sequences of {token_data.name}", markup=False)
    console.print(str(result), markup=False, soft_wrap=True)
    if out is not None:
        about = {"model": source.name, "step": source.step, "data": token_data.name, "seed": seed}
        _write(out, {**about, **result.as_dict()})
        console.print(f"Written to {out}", markup=False)


def _check_fit(network: PreTrainedModel, data: TokenData) -> None:
    """Refuse data whose tokens are not those of the model, or whose sequences are too long for it."""
    known = network.config.vocab_size
    if known != data.vocabulary:
        raise ValueError(
            f"The model has a vocabulary of {known} tokens, the data {data.name} one of {data.vocabulary}; expected "
            "them equal. Name the data that the model was trained on, with the same --vocabulary."
        )
    longest = getattr(network.config, "max_position_embeddings", None)
    if longest is not None and data.context > longest:
        raise ValueError(
            f"The model reads at most {longest} tokens, the sequences of {data.name} have {data.context}; "
            f"give --context {longest} or less."
        )


def _write(file: Path, row: Mapping[str, Any]) -> None:
    """One row of numbers; what is not defined is null in JSON and NaN in Parquet, beside its reason."""
    from spectral_reach.records.atomic import make_folder, write_atomically, write_json_atomically
    from spectral_reach.records.columns import encode

    make_folder(file.parent)
    if file.suffix == ".json":
        undefined = {name: None for name, value in row.items() if isinstance(value, float) and math.isnan(value)}
        write_json_atomically(file, {**row, **undefined})
    else:
        import pyarrow.parquet as pq

        write_atomically(file, lambda temporary: pq.write_table(encode([row]), temporary))
