"""The network of a run folder, built from the run's configuration: as it was trained, whatever its family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.revision import Revision
from spectral_reach.records.errors import RecordError
from spectral_reach.records.needed import needed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def empty_network(revision: Revision) -> PreTrainedModel:
    """The network with its first weights, what was trained of it selected.

    Raises:
        ValueError: the run's configuration is not one that this version reads.
        ImportError: transformers is not installed.
    """
    with needed("hf"):
        import transformers  # noqa: F401 # told by its extra, before a module of ours asks for it
    from spectral_reach.studies.training.run_config import RunConfig
    from spectral_reach.studies.training.snapshot import model_of

    assert revision.run is not None
    return model_of(RunConfig.from_dict(revision.run))


def network_of_run(revision: Revision) -> PreTrainedModel:
    """The network with the weights of the revision.

    Raises:
        ValueError: the weights are damaged, or those of another network.
    """
    from spectral_reach.records.checkpoints import Checkpoint

    network = empty_network(revision)
    try:
        Checkpoint(path=Path(revision.source), step=revision.step or 0).load_weights(network)
    except RecordError as error:
        raise ValueError(str(error)) from error
    except RuntimeError as error:
        # What safetensors raises for weights of another shape, or too many or too few of them.
        raise ValueError(
            f"The weights in {revision.source} are not those of the model in the run's config.json: "
            f"{str(error).strip().splitlines()[-1].strip()} Put back the config.json that the run was made with."
        ) from error
    return network


def kind_of_run(revision: Revision) -> Kind:
    """What the network of a run is, told by the data that it is made for."""
    from spectral_reach.studies.training.run_config import RunConfig

    assert revision.run is not None
    dimensions = RunConfig.from_dict(revision.run).model.dimensions
    return Kind.CAUSAL_LM if "vocabulary" in dimensions else Kind.IMAGE_CLASSIFICATION
