"""Does a step on one domain help another? The position of a pair of batches is negative where it hurts.

Three domains share a network, which sees from a marker among its inputs which one it is in. Domain A asks for a
function of the other inputs, domain B for the same function, domain C for its negative. Trained on all three, the
network first treats them alike, so that a step on A harms C; then it learns to look at the marker.

    python examples/interference.py [--steps 250]
"""

import argparse

import torch
import torch.nn.functional as F

import spectral_reach as sr

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=250, help="updates (250)")
arguments = parser.parse_args()

torch.manual_seed(0)
direction = torch.randn(16)
model = torch.nn.Sequential(torch.nn.Linear(19, 64), torch.nn.GELU(), torch.nn.Linear(64, 1))
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)


def batch(domain: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (B, 16 + 3), of which the last three say in which domain they are, and targets (B, 1)."""
    x = torch.randn(size, 16)
    marker = F.one_hot(torch.full((size,), domain), 3).float()
    sign = -1 if domain == 2 else 1
    return torch.cat([x, marker], dim=1), sign * torch.tanh(x @ direction)[:, None]


def position(of: int, to: int) -> str:
    """How a step on ``of`` is felt by ``to``, with its standard error over batches."""
    pair = sr.decompose(model, batch(of, 256), against=batch(to, 256), loss="mse")
    return f"{pair.chi_pos_unbiased:>10.4f} +- {pair.chi_pos_unbiased_stderr:.4f}"


print(f"{'step':>5}{'loss':>8}{'chi_pos, A on B':>20}{'chi_pos, A on C':>20}")
for step in range(arguments.steps + 1):
    batches = [batch(domain, 64) for domain in range(3)]
    loss = sum(0.5 * F.mse_loss(model(inputs), targets) for inputs, targets in batches) / 3
    if step % max(arguments.steps // 5, 1) == 0:
        print(f"{step:>5}{loss.item():>8.3f}{position(0, 1)}{position(0, 2)}")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
