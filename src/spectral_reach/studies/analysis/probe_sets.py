"""The families of linear probes that belong together: full training, and probes on its backbones and on random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spectral_reach.studies.analysis.study_data import FamilyData

FULL, PRETRAINED, RANDOM = "full", "pretrained", "random"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeSet:
    """The families of one data set; None where no run of a kind has begun.

    Attributes:
        data: what their keys have after the kind: ``pixels`` of ``random-pixels``; empty for a key that is a kind.
        full: everything is trained.
        pretrained: the readout alone, on a backbone that a run of this study has trained.
        random: the readout alone, on a backbone as it was drawn.
    """

    data: str
    full: FamilyData | None
    pretrained: FamilyData | None
    random: FamilyData | None

    @property
    def families(self) -> tuple[FamilyData, ...]:
        """Those that there are."""
        return tuple(each for each in (self.full, self.pretrained, self.random) if each is not None)


def probe_sets(families: Sequence[FamilyData]) -> tuple[ProbeSet, ...]:
    """The sets among ``families``, in their order; what a run trains, and on which backbone, says what it is.

    Full training alone makes no set.

    Raises:
        ValueError: two families of one data set are of the same kind.
    """
    found: dict[str, dict[str, FamilyData]] = {}
    for family in families:
        if not family.runs:
            continue
        kind = kind_of(family)
        data = family.key.partition("-")[2]
        of_data = found.setdefault(data, {})
        if kind in of_data:
            raise ValueError(
                f"got two families of one kind ({kind}), {of_data[kind].key!r} and {family.key!r}; expected one each "
                "of full training, probes on pre-trained and probes on random backbones: give the folder of one study "
                "of probes."
            )
        of_data[kind] = family
    return tuple(
        ProbeSet(data=data, full=kinds.get(FULL), pretrained=kinds.get(PRETRAINED), random=kinds.get(RANDOM))
        for data, kinds in found.items()
        if PRETRAINED in kinds or RANDOM in kinds
    )


def kind_of(family: FamilyData) -> str:
    """``full``, ``pretrained`` or ``random``, from what its runs train."""
    run = family.runs[0]
    if run.trained == "all":
        return FULL
    return RANDOM if run.backbone is None else PRETRAINED
