"""What a reference file holds beside the reference's answers: its pictures, and which model gave them."""

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
from demo import captions, scenes  # noqa: E402

LARGEST_SIDE = 128  # pixels; larger pictures would only make the file larger


def pictures(seed, total):
    """`total` drawn scenes of a seed of their own as (RGB picture, `captions.kinds`).

    Those with noise or JPEG's traces are left out: they would make up most of the file.
    """
    rng = random.Random(seed)
    made = []
    while len(made) < total:
        scene = scenes.sample(rng)
        if scene.side <= LARGEST_SIDE and not scene.noise and scene.jpeg_quality is None:
            made.append((scenes.draw(scene), captions.kinds(scene)))
    return made


def png(picture):
    """The picture as PNG, base64."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def write(path, model, content):
    """Writes gzipped JSON that names its model and library; gives its size in bytes."""
    origin = {
        "model_sha256": hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest(),
        "transformers": transformers.__version__,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(json.dumps(origin | content, separators=(",", ":")).encode(), mtime=0)
    path.write_bytes(packed)
    return len(packed)
