"""The whole distribution behind chi_pos of a small network, before and after training.

python examples/network_spectrum.py [--steps 300] [--out network_spectrum.png]
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import spectral_reach as sr

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=300, help="updates (300)")
parser.add_argument("--out", default="network_spectrum.png", help="the figure after training (.png, .pdf or .svg)")
arguments = parser.parse_args()

torch.manual_seed(0)
digits = load_digits()  # 1,797 hand-written digits of 8 x 8 pixels
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.Linear(64, 10))
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)


def spectrum() -> sr.Spectrum:
    """Of the kernel on 64 images: 640 outputs, hence 640 modes. Float64 sees far down the tail."""
    model.double()
    found = sr.spectrum(model, (images[:64].double(), labels[:64]), method="explicit")
    model.float()
    return found


before = spectrum()
for _ in range(arguments.steps):
    chosen = torch.randint(len(images), (64,))
    optimiser.zero_grad()
    F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
    optimiser.step()
after = spectrum()

print(f"{'':<18}{'chi_pos':>10}{'effective rank':>16}{'half of the loss reduction at p <=':>36}")
for name, found in (("before training", before), ("after training", after)):
    print(f"{name:<18}{found.chi_pos:>10.1e}{found.effective_rank:>16.1f}{found.position_quantile(0.5):>36.1e}")
after.plot().savefig(arguments.out, dpi=110)
