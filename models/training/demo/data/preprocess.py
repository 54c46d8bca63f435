"""Image preprocessing, equal to that of `BlipImageProcessor`."""

import numpy
import torch
from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def scale(image, side):
    """Returns an image as RGB values [side, side, 3] u8, scaled by the bicubic filter."""
    return numpy.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def normalize(pixels):
    """Converts [n, side, side, 3] u8 to normalized [n, 3, side, side] f32."""
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
