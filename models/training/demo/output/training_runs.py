"""Facts about the training runs of a fine-tuned model, for its metrics and its model card."""

import json
import time

import PIL
import torch

from ..networks import optimization


def earlier_runs(folder):
    """Returns the facts of the runs that produced the model in a folder, in order."""
    return json.loads((folder / "metrics.json").read_text())["training"]


def run_facts(options, steps):
    """Returns the facts of the current run."""
    return {
        "seed": options.seed,
        "device": f"{options.threads} thread{'s' * (options.threads > 1)} of a shared processor",
        "seconds": round(time.monotonic() - optimization.START, 1),
        "scenes": options.scenes,
        "frozen_vision_layers": options.frozen_layers,
        "steps": steps,
        "images_per_step": options.batch,
        "peak_learning_rate": options.learning_rate,
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }


def run_list(task, runs):
    """Returns the runs as Markdown: time, device and command of each."""
    command = f"python models/training/train.py --task {task}"
    lines = []
    for number, run in enumerate(runs):
        options = {
            "seed": run["seed"],
            "scenes": run["scenes"],
            "frozen-layers": run["frozen_vision_layers"],
            "batch": run["images_per_step"],
            "steps": run["steps"],
            "learning-rate": run["peak_learning_rate"],
        }
        flags = [f"--{name} {value}" for name, value in options.items()] + ["--resume"] * (number > 0)
        lines += [
            f"Run {number + 1}, {run['seconds']:.0f} s on {run['device']}:",
            "",
            "```console",
            f"$ {command} {' '.join(flags[:3])} \\",
            f"    {' '.join(flags[3:])}",
            "```",
            "",
        ]
    return "\n".join([*lines, "The option `--resume` continues the training and measures the result."])
