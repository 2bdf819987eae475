"""A frozen random backbone against full training: only where features are learnt does the network component grow.

python examples/frozen_backbone.py [--steps 1000] [--out frozen_backbone.png]
"""

import argparse

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import spectral_reach as sr

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=1000, help="updates (1000)")
parser.add_argument("--out", default="frozen_backbone.png", help="the figure (.png, .pdf or .svg)")
arguments = parser.parse_args()

digits = load_digits()  # 1,797 hand-written digits of 8 x 8 pixels
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)


def train(frozen: bool) -> list[dict]:
    """The rows of a training; with a frozen backbone only the readout is trained, and only it is measured."""
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 128), torch.nn.GELU()
    )
    backbone.requires_grad_(not frozen)
    model = torch.nn.Sequential(backbone, torch.nn.Linear(128, 10))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    with sr.Tracker(model, schedule=sr.log_windows(arguments.steps, per_decade=6, width=5)) as tracker:
        for step in range(arguments.steps):
            chosen = torch.randint(len(images), (64,))
            tracker.measure(step, (images[chosen], labels[chosen]))
            optimiser.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimiser.step()
    return tracker.history


figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
for name, frozen in (("full training", False), ("frozen backbone", True)):
    rows = train(frozen)
    for axis, quantity in zip(axes, ("loss", "chi_net", "chi_pos"), strict=True):
        axis.loglog([row["step"] + 1 for row in rows], [row[quantity] for row in rows], ".", ms=4, label=name)
        axis.set(title=quantity, xlabel="step + 1")
    first, last = rows[0]["chi_net"], rows[-1]["chi_net"]
    print(f"{name:<16} chi_net from {first:.3g} to {last:.3g}, times {last / first:.2f}")
axes[0].legend(frameon=False)
figure.savefig(arguments.out, dpi=110)
