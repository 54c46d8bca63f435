"""The vision tower in two parts: layers that stay as they are, run once, and layers that go on learning."""

import torch

from .training import jitter


def lower(vision, images, layers):
    """The embeddings and the first `layers` layers: [n, 3, side, side] to [n, tokens, width]."""
    states = vision.embeddings(images)
    for layer in vision.encoder.layers[:layers]:
        states = layer(states)
    return states


def upper(vision, states, layers):
    """What follows on `lower`; both together are the library's `last_hidden_state`."""
    for layer in vision.encoder.layers[layers:]:
        states = layer(states)
    return vision.post_layernorm(states)


def freeze(vision, layers):
    """Fixes the first `layers` layers, or all of the tower; gives the modules that go on learning."""
    rest = [*vision.encoder.layers[layers:], vision.post_layernorm] if layers < len(vision.encoder.layers) else []
    vision.requires_grad_(False)
    for module in rest:
        module.requires_grad_(True)
    return rest


@torch.no_grad()
def run_lower(vision, gallery, layers, batch=250):
    """`lower` of a whole gallery, each picture in slightly other light: [n, tokens, width] f16."""
    parts = [lower(vision, jitter(gallery.images(slice(start, start + batch))), layers).half()
             for start in range(0, len(gallery), batch)]  # fmt: skip
    return torch.cat(parts)


@torch.no_grad()
def halves_agree(vision, gallery, layers, rows=8):
    """The largest difference between the two halves together and the tower in one."""
    images = gallery.images(slice(0, rows))
    whole = vision(images).last_hidden_state
    return float((upper(vision, lower(vision, images, layers), layers) - whole).abs().max())
