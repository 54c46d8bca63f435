"""What every training script of a demo model does: keep a pace, step, disturb pictures, say where it is."""

import math
import time

import torch

BEGUN = time.monotonic()


def say(text):
    """One line of progress, with the seconds since the program began."""
    print(f"{time.monotonic() - BEGUN:6.0f} s  {text}", flush=True)


class Pace:
    """Where a stage stands between 0 and 1, by steps or by the clock, whichever is further.

    Counted in steps a run can be repeated; the clock only makes sure that it ends in time with its
    learning rate run down, not cut off.
    """

    def __init__(self, steps, deadline):
        self.steps, self.deadline, self.begun, self.step = steps, deadline, time.monotonic(), 0

    def progress(self):
        elapsed = (time.monotonic() - self.begun) / max(self.deadline - self.begun, 1e-9)
        return min(1.0, max(self.step / self.steps, elapsed))

    def learning_rate(self, peak, warm_up=0.04):
        progress = self.progress()
        if self.step < 20 or progress < warm_up:
            return peak * min((self.step + 1) / 20, max(progress / warm_up, 0.05))
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))))


def optimiser(modules, device):
    decayed, plain = [], []
    for module in modules:
        for parameter in module.parameters():
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=device == "cuda")


def update(optimizer, loss, learning_rate):
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def padded(rows):
    """Lists of token ids as one tensor [rows, longest], filled up with 0."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def by_length(rows, parts):
    """The indices of `rows` in `parts` lists of about equal size, short rows in the first: rows of like
    length share a batch, so little of it is padding."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    size = -(-len(order) // parts)
    return [order[start : start + size] for start in range(0, len(order), size)]


def jitter(images):
    """Slightly other light and a little noise on every picture, new at every step."""
    gain = 1 + 0.05 * torch.randn(len(images), 3, 1, 1, device=images.device)
    return images * gain + 0.05 * torch.randn_like(images)
