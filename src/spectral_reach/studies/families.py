"""A study of families: the same training at many sizes, on one data set or several. Each study file has its presets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectral_reach.studies.analysis.report import Report
from spectral_reach.studies.config import (
    SettingTypeError,
    check,
    check_types,
    check_whole_numbers,
    from_mapping,
    named_preset,
    overridden,
)
from spectral_reach.studies.data import Dataset, parse_name
from spectral_reach.studies.family import FamilyConfig
from spectral_reach.studies.plan import Begun, FamilyPlan, StudyPlan
from spectral_reach.studies.registry import Study, register
from spectral_reach.studies.training.run_config import DataConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class FamiliesConfig:
    """The whole study.

    Attributes:
        preset: the ready-made configuration that this is, or that was changed to get it.
        families: by name, in the order of their runs; the names appear in folders and on figures.
        seeds: of weights, data order and probes; every size of every family is trained with each.
        threads: of every run; equal numbers need equal threads.
    """

    preset: str
    families: Mapping[str, FamilyConfig]
    seeds: tuple[int, ...] = (0,)
    threads: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        check_whole_numbers(self, "seeds")
        check(self, "families", len(self.families) > 0, "at least one family")
        check(self, "seeds", len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds), "different seeds")
        check(self, "seeds", all(0 <= seed < 2**63 for seed in self.seeds), "at least 0 and below 2**63")
        check(self, "threads", self.threads >= 1, "at least 1")
        for name, family in self.families.items():
            if family.backbones is not None and family.backbones not in list(self.families)[: self._place(name)]:
                raise ValueError(
                    f"The family {name!r} takes its backbones from {family.backbones!r}; expected a family that comes "
                    f"before it: {', '.join(list(self.families)[: self._place(name)]) or 'there is none'}."
                )

    def _place(self, name: str) -> int:
        return list(self.families).index(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` reads them back."""
        families = {name: family.as_dict() for name, family in self.families.items()}
        return {"preset": self.preset, "families": families, "seeds": list(self.seeds), "threads": self.threads}

    def plan(self, study: str, *, outlined: bool = False, begun: Begun | None = None) -> StudyPlan:
        """Every run, worked out: loads each data set once, and so builds its cache before any worker needs it.

        ``outlined``: without data that have to be downloaded; such a plan can be looked at, not run. ``begun``: a study
        of these settings keeps the data that it was planned with.

        Raises:
            ValueError: data, model and batches do not fit each other.
            RecordError: the cache cannot be written.
        """
        families: dict[str, FamilyPlan] = {}
        known = {} if begun is None or begun.settings != json.loads(json.dumps(self.as_dict())) else begun.data
        loaded: dict[str, tuple[DataConfig, Dataset]] = {}
        for name, family in self.families.items():
            key = repr(sorted(family.data.as_dict().items()))
            if key not in loaded:
                # The settings stay as the user gave them; runs say which data these were.
                if name in known:
                    options = dict(known[name])
                    data = DataConfig(name=options.pop("name"), options=options)
                else:
                    data = family.data if outlined else family.data.resolved()
                loaded[key] = data, data.outline() if outlined else data.load()
            data, content = loaded[key]
            families |= replace(family, data=data).plan(
                name,
                content,
                seeds=self.seeds,
                threads=self.threads,
                backbones=() if family.backbones is None else families[family.backbones].runs,
            )
        return StudyPlan(study=study, preset=self.preset, settings=self.as_dict(), families=families)


Presets = Mapping[str, Callable[[], FamiliesConfig]]


def from_dict(presets: Presets, values: Mapping[str, Any], *, default: str, study: str) -> FamiliesConfig:
    """A preset with some settings changed: ``{"preset": "demo", "families": {"text": {"widths": [16, 32]}}}``.

    A family set to None is left out.

    Raises:
        ValueError: a preset or setting is unknown, missing or impossible; the message names it.
        SettingTypeError: a setting is of the wrong type.
    """
    made = named_preset(presets, values, default=default, study=study).as_dict()
    settings = overridden(made, values)
    chosen = settings["families"]
    if not isinstance(chosen, Mapping):
        raise SettingTypeError(f"families of the {study} study is {chosen!r}; expected families by name.")
    changes = values.get("families", {})
    settings["families"] = {
        name: FamilyConfig.from_dict(
            _without_old_options(family, made["families"].get(name, {}), changes.get(name) or {}),
            f"The family {name!r} of the {study} study",
        )
        for name, family in chosen.items()
        if family is not None
    }
    return from_mapping(FamiliesConfig, settings, f"The {study} study")


def _without_old_options(family: Any, before: Mapping[str, Any], change: Any) -> Any:
    """``family`` where a change of the data set or of the model family leaves none of the old one's options.

    A data set may be one word, ``"text:verse.txt"``, as on the command line.
    """
    if not isinstance(family, Mapping) or not isinstance(change, Mapping):
        return family
    family = dict(family)
    if isinstance(family.get("data"), str):
        name, options = parse_name(family["data"])
        family["data"] = {"name": name, **options}
    elif isinstance(change.get("data"), Mapping) and _changed("name", change["data"], before.get("data", {})):
        family["data"] = change["data"]
    if _changed("model", change, before):
        family["options"] = change.get("options", {})
    return family


def _changed(setting: str, change: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return setting in change and change[setting] != before.get(setting)


def register_families(
    name: str, description: str, presets: Presets, *, default: str, report: Callable[[Path], Report]
) -> Study:
    """Make a study of families known."""
    return register(
        Study(
            name=name,
            description=description,
            presets={key: (preset.__doc__ or "").strip() for key, preset in presets.items()},
            default_preset=default,
            plan=lambda values: from_dict(presets, values, default=default, study=name).plan(name),
            resume=lambda values, begun: from_dict(presets, values, default=default, study=name).plan(
                name, begun=begun
            ),
            outline=lambda values: from_dict(presets, values, default=default, study=name).plan(name, outlined=True),
            report=report,
        )
    )
