"""What ``spectrum`` looks at: a saved model and a batch of training units that it can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from spectral_reach.checkpoints.revision import Revision
    from spectral_reach.studies.data import Dataset
    from spectral_reach.studies.data.dataset import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model on a batch.

    Attributes:
        revision: where the model is from.
        network: the model, in evaluation mode.
        data: where the batch is from.
        batch: inputs and targets.
        seed: of the choice of units.
    """

    revision: Revision
    network: PreTrainedModel
    data: Dataset
    batch: Batch
    seed: int

    @property
    def heading(self) -> str:
        """One line above the numbers."""
        where = "" if self.revision.step is None else f" after {self.revision.step} steps"
        units = "sequences" if "context" in self.data.dimensions else "images"
        return f"{self.revision.model}{where}, on {len(self.batch[0])} training {units} of {self.data.name}"

    @property
    def n_outputs(self) -> int:
        """K of a sample."""
        dimensions = self.data.dimensions
        return dimensions["vocabulary"] if "vocabulary" in dimensions else dimensions["classes"]

    @property
    def about(self) -> dict[str, Any]:
        """What a file of numbers says of where they are from."""
        return {"model": self.revision.model, "step": self.revision.step, "data": self.data.name, "seed": self.seed}


def load_subject(
    model: str,
    *,
    step: int | None = None,
    data: str | None,
    vocabulary: int | None,
    context: int | None,
    units: int,
    seed: int,
) -> Subject:
    """The model in a folder, and ``units`` training units of the data that were named, else of the run's own.

    ``step`` asks for what a run kept after so many updates; otherwise it is the latest checkpoint.

    Raises:
        ValueError: there is no such model, snapshot or data set, or the model cannot read the data.
        ForeignFolderError: it is a run folder that this version does not read.
    """
    from spectral_reach.checkpoints.batches import check_fit, data_set_of, dimensions
    from spectral_reach.checkpoints.kinds import Kind
    from spectral_reach.checkpoints.loading import LoadOptions, load_network
    from spectral_reach.checkpoints.revisions import find_revisions
    from spectral_reach.studies.data.batches import measurement_batch

    (revision,) = find_revisions(model, None if step is None else f"step{step}")
    options = {"vocabulary": vocabulary, "context": context}
    found = data_set_of(revision, data, {name: value for name, value in options.items() if value is not None})
    network = load_network(revision, Kind.CAUSAL_LM, LoadOptions(device="cpu"))
    check_fit(dimensions(revision, network.config), found)
    # Those of step 0 for all steps: snapshots are compared on the same units.
    batch = measurement_batch(found, 0, seed=seed, units=units)
    return Subject(revision=revision, network=network, data=found, batch=batch, seed=seed)
