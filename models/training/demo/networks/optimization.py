"""Progress output, learning rate schedule, optimizer and augmentation, shared by all tasks."""

import math
import time

import torch

START = time.monotonic()


def log(text):
    """Prints one line of progress, with the seconds since the program started."""
    print(f"{time.monotonic() - START:6.0f} s  {text}", flush=True)


class Schedule:
    """Progress of a training stage between 0 and 1, by steps or by time, whichever is further.

    A run that is limited by steps can be repeated. The time limit ends a run early with its
    learning rate decayed.
    """

    def __init__(self, steps, deadline):
        self.steps, self.deadline, self.start, self.step = steps, deadline, time.monotonic(), 0

    def progress(self):
        """Returns the progress, at most 1."""
        elapsed = (time.monotonic() - self.start) / max(self.deadline - self.start, 1e-9)
        return min(1.0, max(self.step / self.steps, elapsed))

    def learning_rate(self, peak, warm_up=0.04):
        """Returns the learning rate: a linear warm-up, then a cosine decay to 1 % of `peak`."""
        progress = self.progress()
        if self.step < 20 or progress < warm_up:
            return peak * min((self.step + 1) / 20, max(progress / warm_up, 0.05))
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))))


def optimizer_of(modules, device):
    """Returns AdamW over all parameters. Weight decay applies to matrices only."""
    matrices, vectors = [], []
    for module in modules:
        for parameter in module.parameters():
            (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=device == "cuda")


def update(optimizer, loss, learning_rate):
    """Runs one optimizer step with clipped gradients."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def jitter(images):
    """Returns images with slightly changed colours and some noise."""
    gain = 1 + 0.05 * torch.randn(len(images), 3, 1, 1, device=images.device)
    return images * gain + 0.05 * torch.randn_like(images)
