"""Writes metrics.json and the model card of a model folder."""

import json

from . import checkpoint


def write(card, model, tokenizer, entries, folder, metrics):
    """Completes `metrics`, then writes them and the model card.

    `card` is one of the card modules. `model` is the saved model, loaded again.
    """
    metrics["model"] = checkpoint.dimensions(model, entries, folder)
    metrics["demo_image"] = card.demo_results(model, tokenizer, folder)
    checkpoint.write_json(folder / "metrics.json", metrics)
    write_card(card, folder)


def write_card(card, folder):
    """Writes the model card from metrics.json."""
    (folder / "README.md").write_text(card.render(json.loads((folder / "metrics.json").read_text())))
