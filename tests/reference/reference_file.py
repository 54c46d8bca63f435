"""Writes the files of reference results, and draws the images in them."""

import base64
import gzip
import hashlib
import io
import json
import random
import sys
from pathlib import Path

import transformers

sys.path.append(str(Path(__file__).resolve().parents[2] / "models/training"))
from demo.data import captions, scenes  # noqa: E402

DATA = Path(__file__).resolve().parent / "data"
MAX_SIDE = 128  # pixels; larger images only make the file larger


def scene_images(seed, total):
    """Returns `total` drawn scenes of a seed as (RGB image, `captions.kinds`).

    Scenes with noise or JPEG artifacts are skipped, because they do not compress.
    """
    rng = random.Random(seed)
    images = []
    while len(images) < total:
        scene = scenes.sample(rng)
        if scene.side <= MAX_SIDE and not scene.noise and scene.jpeg_quality is None:
            images.append((scenes.draw(scene), captions.kinds(scene)))
    return images


def png(image):
    """Returns an image as PNG in base64."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def write(path, model, content):
    """Writes gzipped JSON with the digest of the model and the library version.

    Returns its size.
    """
    origin = {
        "model_sha256": hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest(),
        "transformers": transformers.__version__,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(json.dumps(origin | content, separators=(",", ":")).encode(), mtime=0)
    path.write_bytes(packed)
    return len(packed)
