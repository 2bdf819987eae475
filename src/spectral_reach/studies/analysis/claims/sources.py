"""Where claims find their runs: the study folders at hand, each read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.studies.analysis.study_data import FamilyData, StudyData, read_study


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A family of runs.

    Attributes:
        key: of the family in its study.
        studies: that may have it, the first choice first.
        name: what it is called as long as it is not there.
    """

    key: str
    studies: tuple[str, ...]
    name: str

    @property
    def why_not_run(self) -> str:
        """What would have to be run."""
        return f"It takes the study {' or '.join(self.studies)} with the family {self.key}."


TEXT = Source(key="text", studies=("scaling-text", "scaling"), name="text")
PIXELS = Source(key="pixels", studies=("scaling-pixels", "scaling"), name="images as pixel tokens")
VIT = Source(key="vit", studies=("vit",), name="ViT, standard parametrisation")
VIT_MUP = Source(key="vit-mup", studies=("vit-mup",), name="ViT, muP")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A family, and the name of the study that has it."""

    study: str
    family: FamilyData


class Studies:
    """The studies at hand.

    Args:
        folders: by the name of the study.

    Raises:
        ForeignFolderError, RecordError: from ``study`` and ``family``: a folder is no study, another one, or damaged.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._read: dict[str, StudyData] = {}

    def folder(self, name: str) -> Path | None:
        """The folder of the study called ``name``, if it is there."""
        return self._folders.get(name)

    def study(self, name: str) -> StudyData | None:
        """That study, if it is there."""
        folder = self.folder(name)
        if folder is None:
            return None
        if name not in self._read:
            study = read_study(folder)
            if study.study != name:
                raise ForeignFolderError(
                    f"{folder} holds the study {study.study!r}; expected {name!r}: give each folder under the name of "
                    "its study."
                )
            self._read[name] = study
        return self._read[name]

    def family(self, source: Source) -> Found | None:
        """The family of the first study that has it; None if none has."""
        for name in source.studies:
            study = self.study(name)
            for family in () if study is None else study.families:
                if family.key == source.key:
                    return Found(study=name, family=family)
        return None
