"""One published state of a model: where its files are, at which step of training, and what tells whether it changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAIN = "main"
"""The weights of a model folder itself, or the default branch on the hub."""

_WEIGHTS = ("model*.safetensors", "model*.safetensors.index.json")
_PICKLES = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")
_STEP = re.compile(r"(?:step|checkpoint|iter)[-_]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """A model at one point of its training.

    Attributes:
        model: what the user called the model.
        name: what the user may call the revision.
        step: updates that had been made, as far as its name or the run says; else None.
        source: the folder with ``config.json``, or the name of the repository on the hub.
        commit: of a repository on the hub, or of a download of it; None for any other folder.
        run: the configuration of the run, if it is from a run folder.
        beside: the folder of checkpoints that this one is in, where a tokenizer may be kept for all of them.
    """

    model: str
    name: str
    step: int | None
    source: str | Path
    commit: str | None = None
    run: Mapping[str, Any] | None = None
    beside: Path | None = None

    @property
    def label(self) -> str:
        """One name for the terminal."""
        return self.model if self.name == MAIN and self.commit is None else f"{self.model} {self.name}"

    def has_safetensors(self) -> bool:
        """Whether the folder, or the commit on the hub, holds weights as safetensors."""
        return any(Path(name).match(pattern) for name in self.files() for pattern in _WEIGHTS)

    def has_pickle(self) -> bool:
        """Whether it holds weights as a pickle."""
        return any(Path(name).match(pattern) for name in self.files() for pattern in _PICKLES)

    def files(self) -> list[str]:
        """Names of the files beside ``config.json``, sorted.

        Raises:
            ValueError, ConnectionError: the hub cannot be asked.
        """
        if isinstance(self.source, Path):
            return sorted(each.name for each in self.source.iterdir() if each.is_file())
        from spectral_reach.checkpoints.hub import files_of

        assert self.commit is not None
        return files_of(self.source, self.commit)

    def identity(self) -> str:
        """What changes if and only if the model may have: the commit on the hub, or ``sha256:`` of a folder.

        Of a folder it is over the names and contents of ``config.json``, the weights, and Python files that the
        configuration may name, or over the configuration of a run and its weights; where the folder is does not
        count. Contents are read once and remembered as long as size and time of change stay as they are.

        Raises:
            ValueError: a file cannot be read.
        """
        if self.commit is not None:
            return self.commit
        from spectral_reach.studies.data.file_hashes import file_hash

        folder = Path(self.source)
        weights = _WEIGHTS if self.has_safetensors() else _PICKLES
        patterns = weights if self.run is not None else ("config.json", *weights, "*.py")
        files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
        parts: list[Any] = [[file.name, file_hash(file)] for file in files]
        if self.run is not None:
            parts.append(self.run)
        return "sha256:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def step_of(name: str) -> int | None:
    """The number in ``step1000``, ``checkpoint-500`` or ``step1000-tokens4B``; None where there is none."""
    found = _STEP.search(name)
    return int(found[1]) if found else None


def in_order(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """Sorts names naturally (``step2`` before ``step10``), those without a step after those with one."""
    pieces = re.findall(r"\d+|\D+", name)
    # Numbers before words, as in most sorted lists of files.
    return step_of(name) is None, [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]
