"""A plain PyTorch loop with a tracker: where in the spectrum it learns, and what each update really did to the loss.

python examples/pytorch_loop.py [--steps 1000] [--out pytorch_loop.png]
"""

import argparse

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import spectral_reach as sr

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=1000, help="updates (1000)")
parser.add_argument("--out", default="pytorch_loop.png", help="the figure (.png, .pdf or .svg)")
arguments = parser.parse_args()

torch.manual_seed(0)
digits = load_digits()  # 1,797 hand-written digits of 8 x 8 pixels
images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
model = torch.nn.Sequential(
    torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 128), torch.nn.GELU(), torch.nn.Linear(128, 10)
)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

schedule = sr.log_windows(arguments.steps, per_decade=6, width=5)  # five steps in a row, six times a tenfold of steps
with sr.Tracker(model, schedule=schedule, updates=1) as tracker:
    for step in range(arguments.steps):
        chosen = torch.randint(len(images), (64,))
        outputs = model(images[chosen])
        loss = F.cross_entropy(outputs, labels[chosen])
        tracker.measure(step, (images[chosen], labels[chosen]), outputs=outputs, step_loss=loss)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), layout="constrained")
for axis, quantity in zip(axes, ("loss", "chi_net", "chi_pos"), strict=False):
    axis.loglog([row["step"] + 1 for row in tracker.history], [row[quantity] for row in tracker.history], ".", ms=4)
    axis.set(title=quantity, xlabel="step + 1")
for part in ("cumulated_change", "cumulated_linear", "cumulated_correction"):
    axes[3].semilogx([row["step"] + 1 for row in tracker.updates], [row[part] for row in tracker.updates], label=part)
axes[3].set(title="effect of the updates", xlabel="step + 1")
axes[3].legend(frameon=False, fontsize=7)
figure.savefig(arguments.out, dpi=110)

last = tracker.updates[-1]
print(f"Over {last['step'] + 1} updates the losses of their own batches changed by {last['cumulated_change']:.2f}:")
print(f"{last['cumulated_linear']:.2f} by g . dtheta, and {last['cumulated_correction']:+.2f} by the curvature.")
print(f"chi_pos: {tracker.history[0]['chi_pos']:.1e} at step 0, {tracker.history[-1]['chi_pos']:.1e} at the end.")
