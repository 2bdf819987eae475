"""Models on disk: a checkpoint or snapshot of a run, or a local Hugging Face folder; and data to put in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_reach.records.errors import RecordError, TensorFileError
from spectral_reach.records.run_folder import FORMAT, RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from spectral_reach.studies.data import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A model on disk.

    Attributes:
        name: what the user called it.
        weights: Hugging Face folder with ``config.json`` and safetensors.
        step: updates that a run had made; None for a model that is not from a run.
        run: the configuration of the run, if it is from one.
    """

    name: str
    weights: Path
    step: int | None = None
    run: Mapping[str, Any] | None = None

    def load_model(self) -> PreTrainedModel:
        """The model in float32 and evaluation mode. Runs no code from the folder and no pickle.

        That of a run is built from the run's configuration, so that it is measured as it was trained; any other is a
        causal language model in Hugging Face form.

        Raises:
            ValueError: the folder holds no such model, damaged weights, or not all of them in the right shape.
        """
        return self._causal_language_model() if self.run is None else self._model_of_run(self.run)

    def _model_of_run(self, run: Mapping[str, Any]) -> PreTrainedModel:
        from spectral_reach.records.checkpoints import Checkpoint
        from spectral_reach.studies.training.run_config import RunConfig
        from spectral_reach.studies.training.snapshot import model_of

        model = model_of(RunConfig.from_dict(run))
        weights = Checkpoint(path=self.weights, step=self.step or 0)
        try:
            weights.load_weights(model)
        except RecordError as error:
            raise ValueError(str(error)) from error
        except RuntimeError as error:
            # What safetensors raises for weights of another shape, or too many or too few of them.
            raise ValueError(
                f"The weights in {self.weights} are not those of the model in the run's config.json: "
                f"{str(error).strip().splitlines()[-1].strip()} Put back the config.json that the run was made with."
            ) from error
        return model

    def _causal_language_model(self) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        from spectral_reach.studies.models.parametrisation import restore_multipliers

        # transformers leaves these without types.
        hugging_face: Any = AutoModelForCausalLM
        quiet: Any = logging.disable_progress_bar
        quiet()
        try:
            model, report = hugging_face.from_pretrained(
                str(self.weights),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                # Told below with their names; transformers itself raises without any.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{self.weights} cannot be loaded as a causal language model: {reason} Expected a Hugging Face folder "
                "with config.json and its weights as safetensors."
            ) from error
        except TensorFileError as error:
            raise ValueError(
                f"The weights in {self.weights} cannot be read: {error}. Expected whole safetensors files: these are "
                "cut or damaged, restore them from a copy."
            ) from error
        if mismatched := sorted(report["mismatched_keys"]):
            name, stored, wanted = mismatched[0]
            raise ValueError(
                f"{self.weights} has {len(mismatched)} weights of another shape than its config.json asks for, the "
                f"first is {name}: got {tuple(stored)}, expected {tuple(wanted)}. Put back the config.json that they "
                "were saved with."
            )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"{self.weights} lacks {len(missing)} weights of its architecture, the first is {missing[0]}; expected "
                "all of them, since the rest would be random. Save the whole causal language model."
            )
        loaded: PreTrainedModel = model
        restore_multipliers(loaded, model.get_output_embeddings())
        return loaded

    def dimensions(self, network: PreTrainedModel) -> Mapping[str, int]:
        """What the data have to share with the model, by the names of ``Dataset.dimensions``.

        A context is the longest sequence that the model reads; without one it reads any.
        """
        if self.run is not None:
            from spectral_reach.studies.training.run_config import RunConfig

            return RunConfig.from_dict(self.run).model.dimensions
        longest = getattr(network.config, "max_position_embeddings", None)
        return {"vocabulary": network.config.vocab_size, **({} if longest is None else {"context": longest})}

    def load_data(self, name: str | None, options: Mapping[str, Any]) -> Dataset:
        """The data that the user named (``"digits"``, ``"cifar5m:FOLDER"``), else those of the run.

        Raises:
            ValueError: no data are named where there are no own ones, options without a name, or data that have
                changed since the run was planned.
        """
        from spectral_reach.studies import data as data_sets
        from spectral_reach.studies.training.run_config import RunConfig, check_data

        if name is not None:
            name, first = data_sets.parse_name(name)
            return data_sets.load(name, **{**first, **options})
        if self.run is None:
            raise ValueError(f"{self.name} has no data of its own; name some: --data {' or '.join(data_sets.known())}.")
        if options:
            given = ", ".join(f"--{option}" for option in options)
            raise ValueError(f"{given} only goes with --data; without it the run's own data are used as they were.")
        config = RunConfig.from_dict(self.run)
        data = config.data.load()
        check_data(config, data)
        return data


def find(folder: Path, step: int | None = None) -> Source:
    """The model in ``folder``: of a run its latest checkpoint, or the snapshot that it kept after ``step`` updates.

    Raises:
        ValueError: it is no folder with a model, a run without a checkpoint yet, or there is no such snapshot.
        ForeignFolderError: it is a run folder that this version does not read.
    """
    if (folder / "study.json").is_file():
        raise ValueError(f"{folder} is a study; name one of its runs: {folder / 'runs'}/NAME.")
    header = _header(folder)
    if header.get("format") != FORMAT:
        if step is not None:
            raise ValueError(f"{folder} is no run folder, so that it keeps no snapshots; leave out --step {step}.")
        return Source(name=str(folder), weights=folder)
    run = RunFolder.open(folder)
    if step is not None:
        return Source(name=str(folder), weights=_snapshot(run, step), step=step, run=run.config)
    checkpoint = run.checkpoints.latest()
    if checkpoint is None:
        raise ValueError(f"{folder} has no checkpoint yet; let the run go on until it has written one.")
    return Source(name=str(folder), weights=checkpoint.path, step=checkpoint.step, run=run.config)


def _snapshot(run: RunFolder, step: int) -> Path:
    kept = run.snapshots.steps()
    if step not in kept:
        have = f"those of steps {', '.join(map(str, kept))}" if kept else "none"
        raise ValueError(
            f"{run.path} has no snapshot of step {step}; it has {have}. Name one of these, or leave out --step for the "
            "latest checkpoint."
        )
    return run.snapshots.path(step)


def _header(folder: Path) -> dict[str, Any]:
    expected = "expected a run folder, or a Hugging Face folder with config.json and safetensors"
    file = folder / "config.json"
    if not file.is_file():
        state = "has no config.json" if folder.is_dir() else "is no folder"
        raise ValueError(f"{folder} {state}; {expected}.")
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}; {expected} that you may read.") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); {expected}.") from error
    return header if isinstance(header, dict) else {}
