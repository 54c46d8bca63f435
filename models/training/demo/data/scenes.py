"""Scenes of coloured shapes: samples them, draws them and labels their patches.

Positions and sizes are fractions of the image's side, so that a scene can be drawn at any
resolution. Shapes never overlap and always contrast with their background.
"""

import dataclasses
import io
import math

import numpy
from PIL import Image, ImageDraw, ImageFilter

# The first three shapes and eight colours are those of the easy-vqa data set.
SHAPES = ("circle", "rectangle", "triangle", "star", "cross", "ring")
COLORS = {
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "brown": (165, 42, 42),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "orange": (255, 140, 0),
    "purple": (130, 0, 170),
    "pink": (255, 110, 180),
}
# Numbers of shapes in a scene, and their weights.
COUNTS, COUNT_WEIGHTS = (1, 2, 3, 4, 5, 6), (20, 20, 20, 17, 13, 10)
MIN_RADIUS = {
    "circle": 0.065,
    "rectangle": 0.07,
    "triangle": 0.07,
    "star": 0.1,
    "cross": 0.095,
    "ring": 0.095,
}


@dataclasses.dataclass(frozen=True)
class Thing:
    """One shape: centre, radius of its circumscribed circle and outline, in image fractions."""

    shape: str
    color: str
    x: float
    y: float
    radius: float
    outline: tuple
    rgb: tuple

    @property
    def area(self):
        """The area by the shoelace formula. The outline of a ring excludes its hole."""
        points = numpy.asarray(self.outline)
        x, y = points[:, 0], points[:, 1]
        return abs(float(numpy.dot(x, numpy.roll(y, -1)) - numpy.dot(y, numpy.roll(x, -1)))) / 2


@dataclasses.dataclass(frozen=True)
class Scene:
    """Things on a background, and how they are rendered."""

    things: tuple
    background: tuple  # colour at the top and at the bottom
    side: int  # pixels
    supersampling: int
    noise: float
    blur: float
    jpeg_quality: int | None


def unit_outline(shape, rng):
    """Returns a closed polygon inside the unit circle."""

    def regular(n, radius=1.0, start=-math.pi / 2):
        return [
            (radius * math.cos(start + 2 * math.pi * k / n), radius * math.sin(start + 2 * math.pi * k / n))
            for k in range(n)
        ]

    if shape == "circle":
        return regular(40)
    if shape == "ring":
        hole = regular(32, rng.uniform(0.5, 0.62))
        outer = regular(32)
        # The outline follows the rim and returns along the hole. The seam has no width.
        return outer + outer[:1] + hole[:1] + hole[:0:-1] + hole[:1]
    if shape == "rectangle":
        angle = math.radians(rng.uniform(14, 76))
        w, h = math.cos(angle), math.sin(angle)
        return [(-w, -h), (w, -h), (w, h), (-w, h)]
    if shape == "triangle":
        half = rng.uniform(0.6, 0.8)
        return [(0, -0.85), (half, 0.62), (-half, 0.62)]
    if shape == "star":
        points = zip(regular(5), regular(5, rng.uniform(0.38, 0.46), -math.pi / 2 + math.pi / 5), strict=True)
        return [point for pair in points for point in pair]
    if shape == "cross":
        a = rng.uniform(0.24, 0.32)
        b = math.sqrt(1 - a * a)
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    raise ValueError(f"unknown shape {shape}")


def place(shape, color, x, y, radius, turn, squeeze, rng, jitter):
    """Rotates, scales and moves an outline. `squeeze` imitates scaling to a square."""
    cos, sin = math.cos(turn), math.sin(turn)
    outline = []
    for u, v in unit_outline(shape, rng):
        u, v = u * cos - v * sin, u * sin + v * cos
        outline.append((x + radius * squeeze[0] * u, y + radius * squeeze[1] * v))
    rgb = tuple(min(255, max(0, round(c + rng.uniform(-jitter, jitter)))) for c in COLORS[color])
    return Thing(shape, color, x, y, radius, tuple(outline), rgb)


def background(rng):
    """Returns the background colours.

    Most are pastel as in easy-vqa, some dark, some a gradient.
    """
    low = 200 if rng.random() < 0.75 else rng.choice((20, 90, 150))
    top = tuple(rng.randint(low, min(255, low + 55)) for _ in range(3))
    if rng.random() < 0.7:
        return top, top
    return top, tuple(min(255, max(0, c + rng.randint(-30, 30))) for c in top)


def has_contrast(rgb, background_colors):
    """Returns whether a colour differs enough from both background colours."""
    return all(sum(abs(a - b) for a, b in zip(rgb, side, strict=True)) > 170 for side in background_colors)


def sample(rng, count=None, plain=False):
    """Returns a random scene. `plain` omits noise and distortion, as in the bundled demo image."""
    count = count or rng.choices(COUNTS, COUNT_WEIGHTS)[0]
    # A small palette repeats shapes and colours, which gives counts above one.
    shapes = rng.sample(SHAPES, rng.choice((1, 2, 3))) if rng.random() < 0.45 else SHAPES
    colors = rng.sample(list(COLORS), rng.choice((1, 2, 3))) if rng.random() < 0.45 else list(COLORS)
    colors_behind = ((244, 246, 250), (244, 246, 250)) if plain else background(rng)
    turning = rng.random() < 0.5 and not plain
    squeeze = (1.0, 1.0)
    if not plain and rng.random() >= 0.6:
        squeeze = rng.choice(((rng.uniform(0.75, 1), 1.0), (1.0, rng.uniform(0.75, 1))))
    largest = (0.24, 0.24, 0.21, 0.18, 0.16, 0.14)[count - 1]
    things = []
    for _ in range(400):
        if len(things) == count:
            break
        shape, color = rng.choice(shapes), rng.choice(colors)
        radius = rng.uniform(MIN_RADIUS[shape], max(largest, MIN_RADIUS[shape] + 0.01))
        if plain:
            radius = max(radius, 0.11)
        x, y = rng.uniform(radius, 1 - radius), rng.uniform(radius, 1 - radius)
        if any(math.hypot(x - t.x, y - t.y) < radius + t.radius + 0.03 for t in things):
            continue
        turn = rng.uniform(-0.5, 0.5) if turning else 0.0
        thing = place(shape, color, x, y, radius, turn, squeeze, rng, 0 if plain else rng.choice((0, 8, 14)))
        if has_contrast(thing.rgb, colors_behind):
            things.append(thing)
    if not things:
        return sample(rng, count, plain)
    if plain:
        return Scene(tuple(things), colors_behind, 384, 4, 0.0, 0.0, None)
    side = rng.choice((64, 64, 64, 96, 128, 128, 192, 256, 384, 512))
    small = side <= 192
    return Scene(
        tuple(things),
        colors_behind,
        side,
        2 if small and rng.random() < 0.5 else 1,
        rng.uniform(1, 8) if small and rng.random() < 0.25 else 0.0,
        rng.uniform(0.3, 0.9) * side / 128 if small and rng.random() < 0.15 else 0.0,
        rng.randint(60, 95) if small and rng.random() < 0.2 else None,
    )


def draw(scene):
    """Returns the image, `side` x `side` RGB."""
    side = scene.side * scene.supersampling
    top, bottom = scene.background
    if top == bottom:
        image = Image.new("RGB", (side, side), top)
    else:
        image = Image.fromarray(numpy.array([[top], [bottom]], numpy.uint8))
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        pen.polygon([(x * side - 0.5, y * side - 0.5) for x, y in thing.outline], fill=thing.rgb)
    if scene.supersampling > 1:
        image = image.resize((scene.side, scene.side), Image.Resampling.BOX)
    if scene.blur:
        image = image.filter(ImageFilter.GaussianBlur(scene.blur))
    if scene.noise:
        # The seed depends on the scene, so that a scene always gives the same image.
        noise = numpy.random.default_rng(round(scene.noise * 1e9)).normal(
            0, scene.noise, (scene.side, scene.side, 3)
        )
        image = Image.fromarray((numpy.asarray(image) + noise).clip(0, 255).astype(numpy.uint8))
    if scene.jpeg_quality:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=scene.jpeg_quality)
        image = Image.open(file).convert("RGB")
    return image


def patch_labels(scene, patches, resolution=8):
    """Returns (shape, colour, centre) of each of `patches` x `patches` patches, row by row.

    Shape and colour are 1 + the index in SHAPES and COLORS, or 0 for background. Centre is 1 in the
    patch that contains the centre of a thing, so that its sum is the number of things.
    """
    side = patches * resolution
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for index, thing in enumerate(scene.things, 1):
        pen.polygon([(x * side - 0.5, y * side - 0.5) for x, y in thing.outline], fill=index)
    cells = numpy.asarray(canvas).reshape(patches, resolution, patches, resolution).swapaxes(1, 2)
    cells = cells.reshape(patches * patches, -1)
    coverage = numpy.stack([(cells == index).sum(1) for index in range(1, len(scene.things) + 1)])
    owner = numpy.where(coverage.max(0) * 8 >= resolution * resolution, coverage.argmax(0) + 1, 0)
    names = list(COLORS)
    shapes = numpy.array([0] + [1 + SHAPES.index(t.shape) for t in scene.things])
    colors = numpy.array([0] + [1 + names.index(t.color) for t in scene.things])
    centres = numpy.zeros(patches * patches, numpy.int64)
    for thing in scene.things:
        centres[
            min(int(thing.y * patches), patches - 1) * patches + min(int(thing.x * patches), patches - 1)
        ] = 1
    return shapes[owner], colors[owner], centres
