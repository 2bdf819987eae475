"""What ``measure`` and ``spectrum`` look at: a saved model and a batch of training units that it can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from spectral_reach.cli.sources import Source
    from spectral_reach.studies.data import Dataset
    from spectral_reach.studies.data.dataset import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model on a batch.

    Attributes:
        source: where the model is from.
        network: the model, in evaluation mode.
        data: where the batch is from.
        batch: inputs and targets.
        seed: of the choice of units.
    """

    source: Source
    network: PreTrainedModel
    data: Dataset
    batch: Batch
    seed: int

    @property
    def heading(self) -> str:
        """One line above the numbers."""
        where = "" if self.source.step is None else f" after {self.source.step} steps"
        units = "sequences" if "context" in self.data.dimensions else "images"
        return f"{self.source.name}{where}, on {len(self.batch[0])} training {units} of {self.data.name}"

    @property
    def n_outputs(self) -> int:
        """K of a sample."""
        dimensions = self.data.dimensions
        return dimensions["vocabulary"] if "vocabulary" in dimensions else dimensions["classes"]

    @property
    def about(self) -> dict[str, Any]:
        """What a file of numbers says of where they are from."""
        return {"model": self.source.name, "step": self.source.step, "data": self.data.name, "seed": self.seed}


def load_subject(
    folder: Path,
    *,
    step: int | None = None,
    data: str | None,
    vocabulary: int | None,
    context: int | None,
    units: int,
    seed: int,
) -> Subject:
    """The model in ``folder``, and ``units`` training units of the data that were named, else of the run's own.

    ``step`` asks for the snapshot that a run kept after so many updates; otherwise it is the latest checkpoint.

    Raises:
        ValueError: there is no such model, snapshot or data set, or the model cannot read the data.
        ForeignFolderError: it is a run folder that this version does not read.
    """
    from spectral_reach.cli.sources import find
    from spectral_reach.studies.data.batches import measurement_batch

    source = find(folder, step)
    options = {"vocabulary": vocabulary, "context": context}
    found = source.load_data(data, {name: value for name, value in options.items() if value is not None})
    network = source.load_model()
    _check_fit(source.dimensions(network), found)
    batch = measurement_batch(found, source.step or 0, seed=seed, units=units)
    return Subject(source=source, network=network, data=found, batch=batch, seed=seed)


def _check_fit(model: Mapping[str, int], data: Dataset) -> None:
    """Refuse data that are not of the dimensions of the model, or whose sequences are too long for it."""
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


def _named(dimensions: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in dimensions.items())
