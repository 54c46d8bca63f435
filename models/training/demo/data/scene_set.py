"""Drawn scenes as arrays, with the kinds of things in each of them."""

import dataclasses
import multiprocessing
import random

import numpy
import torch

from . import captions, preprocess, scenes


@dataclasses.dataclass
class SceneSet:
    """`n` images: pixels [n, side, side, 3] u8, and `captions.kinds` of each."""

    pixels: torch.Tensor
    kinds: list

    def __len__(self):
        return len(self.pixels)

    def every(self, step, first):
        """Returns each `step`th image, from the `first` on."""
        return SceneSet(self.pixels[first::step], self.kinds[first::step])

    def images(self, indices):
        """Returns normalized pixel values [len(indices), 3, side, side] f32."""
        return preprocess.normalize(self.pixels[indices])


def of_scenes(scene_list, side):
    """Draws the given scenes."""
    pixels = numpy.stack([preprocess.scale(scenes.draw(scene), side) for scene in scene_list])
    return SceneSet(torch.from_numpy(pixels), [captions.kinds(scene) for scene in scene_list])


def _chunk(job):
    """Draws `size` scenes of one seed in a worker process. Returns a numpy array and a list."""
    seed, size, side = job
    rng = random.Random(seed)
    drawn = of_scenes([scenes.sample(rng) for _ in range(size)], side)
    return drawn.pixels.numpy(), drawn.kinds


def draw(seed, total, side, workers, chunk=250):
    """Draws `total` random scenes. The result depends on the seed alone."""
    jobs = [(f"{seed}:{start}", min(chunk, total - start), side) for start in range(0, total, chunk)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pixels, kinds = zip(*pool.imap(_chunk, jobs), strict=True)
    return SceneSet(
        torch.from_numpy(numpy.concatenate(pixels)), [scene_kinds for part in kinds for scene_kinds in part]
    )
