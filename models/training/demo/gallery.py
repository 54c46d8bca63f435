"""Many drawn scenes as arrays, each with the kinds of things in it."""

import dataclasses
import multiprocessing
import random

import numpy
import torch

from . import bank, captions, network, scenes


@dataclasses.dataclass
class Gallery:
    """`n` pictures: pixels [n, side, side, 3] u8, and each one's `captions.kinds`."""

    pixels: torch.Tensor
    kinds: list

    def __len__(self):
        return len(self.pixels)

    def every(self, step, first):
        """Each `step`th picture, from the `first`."""
        return Gallery(self.pixels[first::step], self.kinds[first::step])

    def images(self, indices):
        """Pixel values [len(indices), 3, side, side] f32, as the image processor makes them."""
        return network.normalise(self.pixels[indices])


def of_scenes(some, side):
    """A gallery of given scenes."""
    pixels = numpy.stack([bank.shrink(scenes.draw(scene), side) for scene in some])
    return Gallery(torch.from_numpy(pixels), [captions.kinds(scene) for scene in some])


def _chunk(job):
    """One worker's share: `size` scenes of one seed, as a numpy array and a list."""
    seed, size, side = job
    rng = random.Random(seed)
    drawn = of_scenes([scenes.sample(rng) for _ in range(size)], side)
    return drawn.pixels.numpy(), drawn.kinds


def draw(seed, total, side, workers, chunk=250):
    """`total` scenes; the result depends on the seed alone."""
    jobs = [(f"{seed}:{start}", min(chunk, total - start), side) for start in range(0, total, chunk)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pixels, kinds = zip(*pool.imap(_chunk, jobs), strict=True)
    return Gallery(torch.from_numpy(numpy.concatenate(pixels)), [found for part in kinds for found in part])
