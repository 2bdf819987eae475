"""The settings of every study, as it keeps them, without the paths of the machine that ran it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spectral_reach.reports.collected import StudyRecord
from spectral_reach.reports.markup import Markup, element, folded, joined
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.tables import scrolling


def configuration_section(studies: Sequence[StudyRecord]) -> Markup:
    """A fold a study."""
    return joined(_fold(study) for study in studies)


def _fold(study: StudyRecord) -> Markup:
    settings = json.dumps(without_paths(dict(study.data.settings)), indent=2, ensure_ascii=False)
    name = f"Settings of {study.name}"
    return folded(
        joined(element("strong", study.name), f", preset {without_paths(study.data.preset)}"),
        scrolling(name, element("pre", element("code", settings))),
    )
