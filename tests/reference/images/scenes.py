"""Scenes for the generated image files, and a function that encodes them with Pillow."""

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 37, 29
# Sides around the block sizes of the formats: 8 for JPEG, 16 for WebP, 4 for padded rows.
SIZES = [(1, 1), (1, 17), (17, 1), (2, 3), (7, 5), (8, 8), (9, 16), (16, 9), (33, 31)]


def scene(width=WIDTH, height=HEIGHT, channels=3, seed=7):
    """Returns gradients with edges and some noise: [height, width, channels] u8."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    planes = [x * 255 // width, y * 255 // height, (x * y) % 256, (x + y) * 3 % 256]
    base = np.stack(planes[:channels], axis=-1).astype(np.int32)
    base[(x // 5 + y // 5) % 2 == 0] ^= 0x60
    return np.clip(base + rng.integers(-9, 10, base.shape), 0, 255).astype(np.uint8)


def scene_image(width=WIDTH, height=HEIGHT, mode="RGB"):
    """Returns the scene as an image of Pillow."""
    if mode == "RGBA":
        return Image.fromarray(scene(width, height, 4))
    return Image.fromarray(scene(width, height)).convert(mode)


def saved(image, file_format, **options):
    """Returns the encoded file of an image."""
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


def packed(values, bits):
    """Returns rows of samples of up to 8 bits, packed from the highest bit: a list of bytes."""
    rows = []
    for row in values.reshape(values.shape[0], -1):
        text = "".join(format(value, f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return rows


def random_samples(height, width, channels, bits, seed=0):
    """Returns random samples: [height, width, channels]."""
    rng = np.random.default_rng(1000 * bits + 10 * channels + seed)
    return rng.integers(0, 1 << bits, (height, width, channels))
