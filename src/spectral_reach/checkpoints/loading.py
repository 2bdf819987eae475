"""The network of a revision: its configuration, and its weights put into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from spectral_reach.checkpoints.first_line import first_line
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.revision import Revision
from spectral_reach.checkpoints.run_network import empty_network, network_of_run
from spectral_reach.records.errors import TensorFileError
from spectral_reach.records.needed import needed

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64, "auto": "auto"}
DEVICES = ("auto", "cpu", "cuda")

_CLASSES = {
    Kind.CAUSAL_LM: ("AutoModelForCausalLM", "a causal language model"),
    Kind.MASKED_LM: ("AutoModelForMaskedLM", "a masked language model"),
    Kind.SEQUENCE_CLASSIFICATION: ("AutoModelForSequenceClassification", "a sequence classifier"),
    Kind.IMAGE_CLASSIFICATION: ("AutoModelForImageClassification", "an image classifier"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadOptions:
    """How a network is loaded.

    Attributes:
        dtype: ``"float32"``, ``"bfloat16"``, ``"float64"``, or ``"auto"`` for the one that it was saved in.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is some.
        trust_remote_code: run Python files that come with the model.
        allow_pickle: read weights from a pickle where there are no safetensors, with ``weights_only``.
    """

    dtype: str = "float32"
    device: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; expected one of {', '.join(DTYPES)}.")
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; expected one of {', '.join(DEVICES)}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is 'cuda', and torch sees no CUDA device; expected one: choose 'auto' or 'cpu'.")

    @property
    def place(self) -> torch.device:
        """The device of this machine."""
        return torch.device("cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu")


def load_config(revision: Revision, options: LoadOptions) -> PretrainedConfig:
    """The configuration of the network.

    Raises:
        ValueError: there is none that transformers reads, or it needs code that is not trusted.
        ConnectionError: the hub cannot be reached.
        ImportError: transformers is not installed.
    """
    if revision.run is not None:
        return empty_network(revision).config
    with needed("hf"):
        from transformers import AutoConfig
    with _told(revision, "a model of transformers"):
        auto: Any = AutoConfig
        config: PretrainedConfig = auto.from_pretrained(
            str(revision.source), revision=revision.commit, trust_remote_code=options.trust_remote_code
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"{revision.label} is quantised; expected weights that are trained as floating-point numbers. Name the "
            "checkpoint that it was made from."
        )
    return config


def load_network(revision: Revision, kind: Kind, options: LoadOptions) -> PreTrainedModel:
    """The network in evaluation mode on the device. Runs no code and reads no pickle unless ``options`` say so.

    That of a run is built from the run's configuration, so that it is measured as it was trained.

    Raises:
        ValueError: there is no such network, its weights are damaged, missing or of another shape, or it needs code
            or a pickle and ``options`` do not allow that.
        ConnectionError: the hub cannot be reached.
        ImportError: transformers is not installed.
    """
    network: Any = network_of_run(revision) if revision.run is not None else _from_transformers(revision, kind, options)
    if revision.run is not None and options.dtype != "auto":
        network.to(DTYPES[options.dtype])
    network.eval()
    loaded: PreTrainedModel = network.to(options.place)
    return loaded


def outline(revision: Revision, kind: Kind, options: LoadOptions) -> PreTrainedModel:
    """The network on the meta device, in evaluation mode: shapes and precisions without values.

    Raises as ``load_config``.
    """
    if revision.run is not None:
        of_run: Any = empty_network(revision)
        of_run.eval()
        made: PreTrainedModel = of_run.to("meta", dtype=None if options.dtype == "auto" else DTYPES[options.dtype])
        return made
    config = load_config(revision, options)
    dtype: Any = getattr(config, "dtype", None) if options.dtype == "auto" else DTYPES[options.dtype]
    with _told(revision, _CLASSES[kind][1]), torch.device("meta"):
        empty: Any = _auto(kind).from_config(
            config, trust_remote_code=options.trust_remote_code, dtype=dtype or torch.float32
        )
    empty.eval()
    found: PreTrainedModel = empty
    return found


def _from_transformers(revision: Revision, kind: Kind, options: LoadOptions) -> PreTrainedModel:
    with needed("hf"):
        from transformers.utils import logging

    from spectral_reach.studies.models.parametrisation import restore_multipliers

    # Before the weights, which say nothing of a pickle that is refused where there is no model at all.
    load_config(revision, options)
    _, what = _CLASSES[kind]
    safe = _check_weights(revision, what, options)
    quiet: Any = logging.disable_progress_bar
    quiet()
    with _told(revision, what):
        network, report = _auto(kind).from_pretrained(
            str(revision.source),
            revision=revision.commit,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=safe,
            weights_only=True,
            dtype=DTYPES[options.dtype],
            # Told below with their names; transformers itself raises without any.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    _check_report(revision, what, report)
    loaded: PreTrainedModel = network
    readout = network.get_output_embeddings()
    if isinstance(readout, torch.nn.Linear):
        restore_multipliers(loaded, readout)
    return loaded


def _check_weights(revision: Revision, what: str, options: LoadOptions) -> bool:
    """Whether there are safetensors; False for a pickle that may be read."""
    if revision.has_safetensors():
        return True
    if not revision.has_pickle():
        raise ValueError(
            f"{revision.label} cannot be loaded as {what}: there are no weights in {revision.source}. Expected "
            "config.json and its weights as safetensors."
        )
    if not options.allow_pickle:
        raise ValueError(
            f"{revision.label} has its weights as a pickle only; expected config.json and its weights as safetensors, "
            "since reading a pickle may run code. Allow it with --allow-pickle (in Python allow_pickle=True), which "
            "still reads nothing but tensors."
        )
    return False


def _check_report(revision: Revision, what: str, report: Any) -> None:
    if mismatched := sorted(report["mismatched_keys"]):
        name, stored, wanted = mismatched[0]
        raise ValueError(
            f"{revision.label} has {len(mismatched)} weights of another shape than its config.json asks for, the "
            f"first is {name}: got {tuple(stored)}, expected {tuple(wanted)}. Put back the config.json that they "
            "were saved with."
        )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{revision.label} lacks {len(missing)} weights of its architecture, the first is {missing[0]}; expected "
            f"all of them, since the rest would be random. Save it whole, as {what}, or say what it is with --kind."
        )


@contextlib.contextmanager
def _told(revision: Revision, what: str) -> Iterator[None]:
    """Turn what transformers raises about a revision into an error with a remedy."""
    from spectral_reach.checkpoints.hub import hub_errors_told

    is_on_hub = isinstance(revision.source, str)
    guard = hub_errors_told(str(revision.source), revision.name) if is_on_hub else contextlib.nullcontext()
    try:
        with guard:
            yield
    except ConnectionError:
        raise
    except TensorFileError as error:
        raise ValueError(
            f"The weights in {revision.source} cannot be read: {error}. Expected whole safetensors files: these are "
            "cut or damaged, restore them from a copy."
        ) from error
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{revision.label} comes with Python code of its own, which is not run unless you trust it; expected "
                "an architecture that transformers has. Read the code, then allow it with --trust-remote-code (in "
                "Python trust_remote_code=True)."
            ) from error
        raise ValueError(
            f"{revision.label} cannot be loaded as {what}: {first_line(error)}. Expected a "
            "Hugging Face folder with config.json and its weights as safetensors."
        ) from error
    except Exception as error:
        # By its name: no module here imports pickle, not even for the error of reading one.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise ValueError(
            f"The pickle in {revision.source} holds something else than tensors, or is damaged; expected nothing but "
            "tensors by name, and nothing else is read. Save the model as safetensors where you trust it."
        ) from error


def _auto(kind: Kind) -> Any:
    import transformers

    return getattr(transformers, _CLASSES[kind][0])
