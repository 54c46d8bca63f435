"""The vision encoder in two parts: frozen lower layers, which run once, and upper layers."""

import torch

from .optimization import jitter


def lower(vision, images, layers):
    """Runs the embeddings and the first `layers` layers.

    Takes [n, 3, side, side] and returns [n, tokens, width].
    """
    states = vision.embeddings(images)
    for layer in vision.encoder.layers[:layers]:
        states = layer(states)
    return states


def upper(vision, states, layers):
    """Runs the remaining layers on the result of `lower`. Returns `last_hidden_state`."""
    for layer in vision.encoder.layers[layers:]:
        states = layer(states)
    return vision.post_layernorm(states)


def freeze(vision, layers):
    """Freezes the first `layers` layers. Returns the modules that remain trainable.

    If `layers` covers all layers, the whole encoder is frozen.
    """
    is_partial = layers < len(vision.encoder.layers)
    trainable = [*vision.encoder.layers[layers:], vision.post_layernorm] if is_partial else []
    vision.requires_grad_(False)
    for module in trainable:
        module.requires_grad_(True)
    return trainable


@torch.no_grad()
def run_lower(vision, scene_set, layers, batch=250):
    """Returns `lower` of all images, with jitter: [n, tokens, width] f16."""
    parts = [
        lower(vision, jitter(scene_set.images(slice(start, start + batch))), layers).half()
        for start in range(0, len(scene_set), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def max_difference(vision, scene_set, layers, rows=8):
    """Returns the largest difference between the split and the whole encoder."""
    images = scene_set.images(slice(0, rows))
    whole = vision(images).last_hidden_state
    return float((upper(vision, lower(vision, images, layers), layers) - whole).abs().max())
