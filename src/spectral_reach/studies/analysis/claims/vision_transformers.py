"""Claims: ViTs, too, show a falling position and the order of sizes, in standard parametrisation and in muP.

Two findings a measure: the rule of ``spectral_position_falls`` and that of ``larger_models_end_lower``.
"""

from __future__ import annotations

from spectral_reach.studies.analysis.claims.claim import claim_on_families
from spectral_reach.studies.analysis.claims.larger_models_end_lower import judge_order
from spectral_reach.studies.analysis.claims.sources import VIT, VIT_MUP
from spectral_reach.studies.analysis.claims.spectral_position_falls import judge_fall

STANDARD = claim_on_families(
    "vit",
    "Vision transformers show the same in standard parametrisation: position falls, and larger models end lower.",
    (VIT,),
    (judge_fall, judge_order),
)
MUP = claim_on_families(
    "vit-mup",
    "Vision transformers show the same in muP: position falls, and larger models end lower.",
    (VIT_MUP,),
    (judge_fall, judge_order),
)
