"""The claims of the paper, in the order of a report. A new one is a file of this room, and a line here."""

from __future__ import annotations

from spectral_reach.studies.analysis.claims import (
    backbone_ratio_grows,
    full_training_grows_chi_net,
    hutchinson_spread,
    larger_models_end_lower,
    loss_power_law,
    position_follows_test_loss,
    position_governs,
    pretrained_ends_lower,
    random_features_on_theory,
    spectral_position_falls,
    train_and_test_agree,
    vision_transformers,
)
from spectral_reach.studies.analysis.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    loss_power_law.CLAIM,
    spectral_position_falls.CLAIM,
    larger_models_end_lower.CLAIM,
    train_and_test_agree.CLAIM,
    position_follows_test_loss.CLAIM,
    pretrained_ends_lower.CLAIM,
    backbone_ratio_grows.CLAIM,
    full_training_grows_chi_net.CLAIM,
    vision_transformers.STANDARD,
    vision_transformers.MUP,
    position_governs.CLAIM,
    random_features_on_theory.CLAIM,
    hutchinson_spread.CLAIM,
)
