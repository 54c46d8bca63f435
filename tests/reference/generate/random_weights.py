"""Random weights for comparisons of implementations.

With the initialization of the library (standard deviation 0.02, or 1e-10 in the vision encoder) all
logits are nearly equal, so that a wrong implementation would pass. These weights preserve about
unit variance through all layers. Biases and norms are not trivial, and logits differ by a few
units.
"""

import math

import torch

LOGIT_SPREAD = 2.5


def tensor(name, shape, generator, gain=1.0):
    """Returns a random f32 tensor for an entry of the state dict. The scale depends on its name."""
    noise = torch.randn(tuple(shape), generator=generator)
    leaf = name.rsplit(".", 1)[-1]
    owner = name.rsplit(".", 2)[-2]
    if "norm" in owner.lower():
        return 1.0 + 0.1 * noise if leaf == "weight" else 0.1 * noise
    if leaf in ("class_embedding", "position_embedding"):
        return 0.5 * noise
    if owner in ("word_embeddings", "decoder") and leaf == "weight":
        # The head multiplies a normalized state, of length sqrt(hidden), with these rows.
        return LOGIT_SPREAD / math.sqrt(shape[-1]) * noise
    if owner == "position_embeddings":
        return 0.5 * LOGIT_SPREAD / math.sqrt(shape[-1]) * noise
    if leaf == "weight":
        fan_in = math.prod(shape[1:])
        return gain / math.sqrt(fan_in) * noise
    return 0.1 * noise


def deep_tensor(name, shape, generator):
    """Returns a tensor like `tensor`, for networks of a dozen layers.

    With plain noise, deep networks lose the information of their input. A nonzero mean activation
    moves all tokens in the same direction until they are alike. Therefore:

    * The second half of each MLP ignores the mean of the first half.
    * Attention is more peaked.
    * The branches of the decoder are weak, so that earlier tokens retain their influence.

    Image, question and step then change the logits by about their magnitude. Rounding the weights
    to f16 changes them by less than a hundredth.
    """
    value = tensor(name, shape, generator)
    if value.ndim < 2 or "norm" in name.lower():
        return 0.2 * value if name.endswith("bias") else value
    if name.endswith("qkv.weight"):
        value[: 2 * len(value) // 3] *= 1.4  # queries and keys
    elif name.endswith(("query.weight", "key.weight")):
        value *= 1.4
    elif name.endswith(("intermediate.dense.weight", "fc1.weight")):
        value *= 2.0
    elif name.endswith("fc2.weight") or (name.endswith("output.dense.weight") and "attention" not in name):
        value -= value.mean(-1, keepdim=True)
    if name.startswith("text_decoder") and name.endswith("output.dense.weight"):
        value *= 0.25 if "attention" in name else 0.5
    return value


def fill(model, seed, gain=1.0):
    """Overwrites every parameter of a model by its seed. Tied parameters remain tied."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensor(name, parameter.shape, generator, gain))
