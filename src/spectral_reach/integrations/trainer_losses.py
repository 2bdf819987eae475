"""Which loss a Trainer of transformers or TRL trains by: only what its model computes of the labels can be measured."""

from __future__ import annotations

from spectral_reach.records.needed import needed

with needed("hf"):
    from transformers import Trainer


def check_loss_is_known(trainer: Trainer, *, is_given: bool) -> None:
    """Refuse a Trainer whose loss is not one of the labels that its model gets.

    Args:
        trainer: about to train.
        is_given: whether the caller says which loss it is, in a subclass of the caller's.

    Raises:
        ValueError: the labels are kept from the model, or the Trainer computes another loss.
    """
    for name, given in (
        ("label_smoothing_factor", trainer.label_smoother is not None),
        ("compute_loss_func", trainer.compute_loss_func is not None),
    ):
        if given:
            raise ValueError(
                f"the Trainer has {name} and keeps the labels from the model; expected the model to get them: leave "
                f"{name} out, or measure with sr.Tracker in a loop of your own"
            )
    owner = next(each for each in type(trainer).__mro__ if "compute_loss" in vars(each))
    if owner is Trainer:
        return
    if owner.__module__.split(".")[0] == "trl":
        _check_loss_of_trl(trainer, owner.__name__)
    elif not is_given:
        raise ValueError(
            f"{owner.__name__} has a compute_loss of its own; expected to be told what it computes of the labelled "
            'outputs: SpectralCallback(loss="cross_entropy") if it is that, or loss=, a callable (outputs, targets) '
            "-> scalar; measure any other with sr.Tracker in a loop of your own"
        )


def _check_loss_of_trl(trainer: Trainer, name: str) -> None:
    """Others than ``SFTTrainer`` call the model with labels as well, to have it return log-probabilities of them."""
    if name != "SFTTrainer":
        raise ValueError(
            f"{name} trains by a loss of preferences or rewards, not by the cross entropy of the labels that its model "
            "gets; expected a Trainer or an SFTTrainer: measure with sr.Tracker in a loop of your own, with one sample "
            "for each preference, or the checkpoints with `spectral-reach measure`, of DPO with --loss dpo"
        )
    loss_type = getattr(trainer.args, "loss_type", "nll")
    if loss_type != "nll":
        raise ValueError(
            f"the SFTTrainer has loss_type={loss_type!r}, in which weights of tokens count as constants; "
            "expected 'nll', cross entropy: measure another with sr.Tracker in a loop of your own"
        )
