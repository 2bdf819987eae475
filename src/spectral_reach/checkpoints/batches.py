"""The named batches of a request: of a user's file, of a bundled data set, of the run itself, or given ready."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_reach.checkpoints.data.load import NamedBatch, digest_of, load_batch
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.processors import fingerprint, load_processor
from spectral_reach.checkpoints.request import Request
from spectral_reach.checkpoints.revision import Revision

if TYPE_CHECKING:
    from spectral_reach.studies.data import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """What revisions are measured on: the same for all of them.

    Attributes:
        by_name: the batches.
        of_data_sets: those of bundled data sets, whose targets stand beside the inputs.
        made_with: fingerprint of the tokenizer or image processor that made some of them; None where none did.
    """

    by_name: Mapping[str, NamedBatch]
    of_data_sets: frozenset[str]
    made_with: str | None

    def loss_of(self, name: str, loss: str) -> str:
        """The name of the loss for a batch: the own one of a model on a bundled data set is cross entropy."""
        return "cross_entropy" if loss == "model" and name in self.of_data_sets else loss


def batches_of(request: Request, revision: Revision, kind: Kind, config: Any) -> Batches:
    """The batches, made for ``revision``.

    Raises:
        ValueError, TypeError: data that there are not, that are damaged, or that do not go with the model.
        ConnectionError: the hub cannot be reached.
        ImportError: a package is not installed; the message says which extra brings it.
    """
    from spectral_reach.studies import data as data_sets

    processors: list[Any] = []

    def processor() -> Any:
        if not processors:
            processors.append(load_processor(revision, kind, request.load))
        return processors[0]

    found: dict[str, NamedBatch] = {}
    of_data_sets = set()
    for name, spec in request.data.items():
        if not isinstance(spec, str):
            found[name] = NamedBatch(name=name, batch=spec, digest=digest_of(spec), description="a ready batch")
        elif spec.partition(":")[0] in data_sets.known():
            data = data_set_of(revision, spec, request.data_set_options)
            found[name] = _of_data_set(name, data, request, dimensions(revision, config))
            of_data_sets.add(name)
        elif re.fullmatch(r"[\w-]+", spec) and not Path(spec).exists():
            raise ValueError(
                f"data {name!r} are {spec!r}, which is no file or folder here; the bundled data sets are "
                f"{', '.join(data_sets.known())}."
            )
        else:
            found[name] = load_batch(
                name, spec, kind=kind, config=config, processor=processor, options=request.data_options
            )
    if not found:
        data = data_set_of(revision, None, request.data_set_options)
        found[data.name] = _of_data_set(data.name, data, request, dimensions(revision, config))
        of_data_sets.add(data.name)
    elif request.data_set_options and not of_data_sets:
        raise ValueError(
            f"{_flags(request.data_set_options)} only goes with a bundled data set, and none is named; expected --data "
            f"with one of {', '.join(data_sets.known())}."
        )
    made_with = fingerprint(processors[0]) if processors else None
    return Batches(by_name=found, of_data_sets=frozenset(of_data_sets), made_with=made_with)


def data_set_of(revision: Revision, name: str | None, options: Mapping[str, Any]) -> Dataset:
    """The bundled data set that the user named (``"digits"``, ``"cifar5m:FOLDER"``), else the one of the run.

    Raises:
        ValueError: no data are named where there are no own ones, options without a name, or data that have changed
            since the run was planned.
    """
    from spectral_reach.studies import data as data_sets
    from spectral_reach.studies.training.run_config import RunConfig, check_data

    if name is not None:
        name, first = data_sets.parse_name(name)
        return data_sets.load(name, **{**first, **options})
    if revision.run is None:
        raise ValueError(
            f"{revision.model} has no data of its own; name some: --data {' or '.join(data_sets.known())}, or for "
            "measure --data NAME=FILE."
        )
    if options:
        raise ValueError(
            f"{_flags(options)} only goes with --data; without it the run's own data are used as they were."
        )
    config = RunConfig.from_dict(revision.run)
    data = config.data.load()
    check_data(config, data)
    return data


def dimensions(revision: Revision, config: Any) -> Mapping[str, int]:
    """What bundled data have to share with the model, by the names of ``Dataset.dimensions``.

    A context is the longest sequence that the model reads; without one it reads any.
    """
    if revision.run is not None:
        from spectral_reach.studies.training.run_config import RunConfig

        return RunConfig.from_dict(revision.run).model.dimensions
    longest = getattr(config, "max_position_embeddings", None)
    vocabulary = getattr(config, "vocab_size", None)
    if vocabulary is None:
        raise ValueError(
            f"{revision.label} is no language model; expected one for a bundled data set: give a file or a folder of "
            "images with --data NAME=PATH."
        )
    return {"vocabulary": vocabulary, **({} if longest is None else {"context": longest})}


def check_fit(model: Mapping[str, int], data: Dataset) -> None:
    """Refuse data that are not of the dimensions of the model, or whose sequences are too long for it.

    Raises:
        ValueError: they are not.
    """
    of_data = dict(data.dimensions)
    if not model.keys() <= of_data.keys():
        raise ValueError(
            f"The model is made for data with {_named(model)}, the data {data.name} have {_named(of_data)}. Name data "
            "of the kind that the model was trained on."
        )
    if "vocabulary" in model and model["vocabulary"] != of_data["vocabulary"]:
        raise ValueError(
            f"The model has a vocabulary of {model['vocabulary']} tokens, the data {data.name} one of "
            f"{of_data['vocabulary']}; expected them equal. Name the data that the model was trained on, with the same "
            "--vocabulary."
        )
    if "context" in model and of_data["context"] > model["context"]:
        raise ValueError(
            f"The model reads at most {model['context']} tokens, the sequences of {data.name} have "
            f"{of_data['context']}; give --context {model['context']} or less."
        )
    if any(model[name] != of_data[name] for name in model.keys() - {"vocabulary", "context"}):
        raise ValueError(
            f"The model is made for {_named(model)}, the data {data.name} have {_named(of_data)}; expected them equal. "
            "Name the data that the model was trained on."
        )


def _of_data_set(name: str, data: Dataset, request: Request, model: Mapping[str, int]) -> NamedBatch:
    from spectral_reach.studies.data.batches import measurement_batch

    check_fit(model, data)
    options = request.data_options
    # Those of step 0 for all steps: revisions are compared on the same units.
    batch = measurement_batch(data, 0, seed=options.seed, units=options.units)
    what = "sequences" if "context" in data.dimensions else "images"
    described = f"{options.units:,} training {what} of {data.name}"
    return NamedBatch(name=name, batch=batch, digest=digest_of(batch), description=described)


def _flags(options: Mapping[str, Any]) -> str:
    return ", ".join(f"--{option}" for option in options)


def _named(dimensions: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in dimensions.items())
