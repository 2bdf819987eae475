"""What ``measure`` and ``spectrum`` look at: a saved model and a batch of training sequences that it can read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from spectral_reach.cli.sources import Source
    from spectral_reach.studies.data import TokenData
    from spectral_reach.studies.data.dataset import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model on a batch.

    Attributes:
        source: where the model is from.
        network: the model, in evaluation mode.
        data: where the batch is from.
        batch: inputs and targets.
        seed: of the choice of sequences.
    """

    source: Source
    network: PreTrainedModel
    data: TokenData
    batch: Batch
    seed: int

    @property
    def heading(self) -> str:
        """One line above the numbers."""
        where = "" if self.source.step is None else f" after {self.source.step} steps"
        return f"{self.source.name}{where}, on {len(self.batch[0])} training sequences of {self.data.name}"

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
    """The model in ``folder``, and ``units`` training sequences of the data that were named, else of the run's own.

    ``step`` asks for the snapshot that a run kept after so many updates; otherwise it is the latest checkpoint.

    Raises:
        ValueError: there is no such model, snapshot or data set, or the model cannot read the data.
        ForeignFolderError: it is a run folder that this version does not read.
    """
    from spectral_reach.cli.sources import find
    from spectral_reach.studies.data.batches import measurement_batch

    source = find(folder, step)
    options = {"vocabulary": vocabulary, "context": context}
    token_data = source.load_data(data, {name: value for name, value in options.items() if value is not None})
    network = source.load_model()
    _check_fit(network, token_data)
    batch = measurement_batch(token_data, source.step or 0, seed=seed, units=units)
    return Subject(source=source, network=network, data=token_data, batch=batch, seed=seed)


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
