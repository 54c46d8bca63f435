"""Questions about a scene with exactly one correct answer.

Each kind of question is a function `kind(scene, rng)`. It returns `(question, answer)`, or None if
the scene allows no unambiguous question of this kind. Margins exclude doubtful cases: "left" means
clearly left, "largest" means clearly larger. The function's name is the kind's name in metrics.
"""

import collections

from .scenes import COLORS, SHAPES

PLURALS = {"cross": "crosses"} | {shape: shape + "s" for shape in SHAPES if shape != "cross"}
CLEARLY_APART = 0.12  # fraction of the image's side
WHERE = ("in the picture", "in the image", "in the scene", "")  # check_prose: allow
PRESENT = ("in the picture", "in the image", "present", "visible", "")  # check_prose: allow


def text(*words):
    return " ".join(word for word in words if word)


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def describe(thing, scene, rng):
    """Returns a unique description of a thing ("red circle", "circle", "red shape"), or None."""
    options = []
    if sum(t.shape == thing.shape for t in scene.things) == 1:
        options.append(thing.shape)
    if sum(t.color == thing.color for t in scene.things) == 1:
        options.append(f"{thing.color} shape")
    if sum((t.shape, t.color) == (thing.shape, thing.color) for t in scene.things) == 1:
        options += [f"{thing.color} {thing.shape}"] * 2
    return rng.choice(options) if options else None


def color_word(rng):
    return rng.choice(("color", "color", "color", "colour"))


def color_of(scene, rng):
    thing = rng.choice(scene.things)
    if len(scene.things) == 1:
        name = rng.choice(("shape", "object", thing.shape))
    elif sum(t.shape == thing.shape for t in scene.things) == 1:
        name = thing.shape
    else:
        return None
    c = color_word(rng)
    return rng.choice(
        (
            f"what {c} is the {name}",
            f"what is the {c} of the {name}",
            f"which {c} is the {name}",
            f"what {c} does the {name} have",
        )
    ), thing.color


def shape_of(scene, rng):
    thing = rng.choice(scene.things)
    where = rng.choice(WHERE)
    if len(scene.things) == 1 and rng.random() < 0.5:
        return rng.choice(
            (
                text("what shape is", where or "present"),
                "what shape does the image contain",
                text("which shape is", where or "there"),
                text("what shape do you see", where),
            )
        ), thing.shape
    if sum(t.color == thing.color for t in scene.things) != 1:
        return None
    return rng.choice(
        (
            f"what is the {thing.color} shape",
            f"what shape is {thing.color}",
            f"which shape is {thing.color}",
            f"what is the {thing.color} object",
            f"what shape is the {thing.color} object",
        )
    ), thing.shape


def some_class(scene, rng):
    """Returns (singular, plural, test) of things to count or to find. Most occur in the scene."""
    near = rng.choice(scene.things)
    shape = near.shape if rng.random() < 0.7 else rng.choice(SHAPES)
    color = near.color if rng.random() < 0.7 else rng.choice(list(COLORS))
    form = rng.random()
    if form < 0.4:
        return shape, PLURALS[shape], lambda t: t.shape == shape
    if form < 0.7:
        return f"{color} shape", f"{color} shapes", lambda t: t.color == color
    return f"{color} {shape}", f"{color} {PLURALS[shape]}", lambda t: (t.color, t.shape) == (color, shape)


def count(scene, rng):
    if rng.random() < 0.3:
        plural, total = rng.choice(("shapes", "objects", "things")), len(scene.things)
    else:
        _, plural, fits = some_class(scene, rng)
        total = sum(map(fits, scene.things))
    where = rng.choice(WHERE)
    return rng.choice(
        (
            text("how many", plural, "are", where or "there"),
            text("how many", plural, "are there", where),
            text("how many", plural, "do you see", where),
            text("how many", plural, "can you see", where),
            text("count the", plural, where),
            text("what is the number of", plural, where),
        )
    ), str(total)


def exists(scene, rng):
    expected = rng.random() < 0.5
    for _ in range(12):
        singular, plural, fits = some_class(scene, rng)
        if any(map(fits, scene.things)) == expected:
            break
    else:
        return None
    where = rng.choice(PRESENT)
    if rng.random() < 0.25:
        question = rng.choice(
            (
                text("is there not", a(singular), where),  # check_prose: allow
                text("is no", singular, where or "there"),
                f"does the image not contain {a(singular)}",
                text("are there no", plural, where),
            )
        )
        return question, "no" if expected else "yes"
    question = rng.choice(
        (
            text("is there", a(singular), where),  # check_prose: allow
            text("is", a(singular), where or "there"),
            text("are there any", plural, where),
            f"does the image contain {a(singular)}",
            f"does the picture show {a(singular)}",
            text("do you see", a(singular), where),
            f"can you see {a(singular)}",
        )
    )
    return question, "yes" if expected else "no"


SIDES = {
    "to the left of": lambda p, q: q.x - p.x,
    "left of": lambda p, q: q.x - p.x,
    "to the right of": lambda p, q: p.x - q.x,
    "right of": lambda p, q: p.x - q.x,
    "above": lambda p, q: q.y - p.y,
    "below": lambda p, q: p.y - q.y,
    "under": lambda p, q: p.y - q.y,
}


def beside(scene, rng):
    """What is to the left of the red circle? Requires exactly one thing on that side."""
    if len(scene.things) < 2:
        return None
    anchor = rng.choice(scene.things)
    side = rng.choice(list(SIDES))
    name = describe(anchor, scene, rng)
    distances = {id(t): SIDES[side](t, anchor) for t in scene.things if t is not anchor}
    if name is None or any(abs(d) < CLEARLY_APART for d in distances.values()):
        return None
    matches = [t for t in scene.things if distances.get(id(t), 0) > 0]
    if len(matches) != 1:
        return None
    c, found = color_word(rng), matches[0]
    return rng.choice(
        (
            (f"what is {side} the {name}", f"{found.color} {found.shape}"),
            (f"what shape is {side} the {name}", found.shape),
            (f"what {c} is the shape {side} the {name}", found.color),
        )
    )


def is_beside(scene, rng):
    if len(scene.things) < 2:
        return None
    one, other = rng.sample(scene.things, 2)
    side = rng.choice(list(SIDES))
    distance = SIDES[side](one, other)
    first, second = describe(one, scene, rng), describe(other, scene, rng)
    if first is None or second is None or abs(distance) < CLEARLY_APART:
        return None
    return f"is the {first} {side} the {second}", "yes" if distance > 0 else "no"


EDGES = {
    "at the top": lambda t: t.y,
    "at the bottom": lambda t: -t.y,
    "on the left": lambda t: t.x,
    "on the right": lambda t: -t.x,
}


def at_edge(scene, rng):
    """What is at the top? Requires that one thing is first by a clear margin."""
    edge = rng.choice(list(EDGES))
    ordered = sorted(scene.things, key=EDGES[edge])
    if len(ordered) < 2 or EDGES[edge](ordered[1]) - EDGES[edge](ordered[0]) < CLEARLY_APART:
        return None
    c, found = color_word(rng), ordered[0]
    return rng.choice(
        (
            (f"what is {edge}", f"{found.color} {found.shape}"),
            (f"what shape is {edge}", found.shape),
            (f"which shape is {edge}", found.shape),
            (f"what {c} is the shape {edge}", found.color),
        )
    )


def by_size(scene, rng):
    """What is the largest shape? Requires a larger area and a larger radius."""
    sign, adjective = rng.choice(((-1, "largest"), (-1, "biggest"), (1, "smallest")))
    ordered = sorted(scene.things, key=lambda t: sign * t.area)
    if len(ordered) < 2:
        return None
    first = ordered[0]
    for other in ordered[1:]:
        small, large = (first, other) if sign > 0 else (other, first)
        if large.area < 1.6 * small.area or large.radius < 1.15 * small.radius:
            return None
    c = color_word(rng)
    return rng.choice(
        (
            (f"what is the {adjective} shape", first.shape),
            (f"which shape is the {adjective}", first.shape),
            (f"what {c} is the {adjective} shape", first.color),
            (f"what is the {adjective} object", f"{first.color} {first.shape}"),
        )
    )


def place(scene, rng):
    """Where is the star?

    The answer is one of nine fields. Requires a distance from their borders.
    """
    thing = rng.choice(scene.things)
    name = describe(thing, scene, rng)
    if name is None or any(abs(at - border) < 0.05 for at in (thing.x, thing.y) for border in (1 / 3, 2 / 3)):
        return None
    row = ("top", "", "bottom")[int(thing.y * 3)]
    column = ("left", "", "right")[int(thing.x * 3)]
    where = rng.choice(WHERE)
    return rng.choice(
        (
            text("where is the", name),
            text("where is the", name, where),
            f"in which part of the picture is the {name}",  # check_prose: allow
        )
    ), text(row, column) or "center"


def more(scene, rng):
    totals = collections.Counter(t.shape for t in scene.things)
    one = rng.choice(scene.things).shape
    other = rng.choice([shape for shape in SHAPES if shape != one])
    if rng.random() < 0.5:
        one, other = other, one
    comparison = rng.choice(("more", "fewer"))
    difference = totals[one] - totals[other] if comparison == "more" else totals[other] - totals[one]
    where = rng.choice(WHERE)
    return text(
        f"are there {comparison}", PLURALS[one], "than", PLURALS[other], where
    ), "yes" if difference > 0 else "no"


def in_order(scene, rng):
    """List the shapes from left to right."""
    ordered = sorted(scene.things, key=lambda t: t.x)
    if not 2 <= len(ordered) <= 4 or any(
        q.x - p.x < 0.09 for p, q in zip(ordered, ordered[1:], strict=False)
    ):
        return None
    of = rng.choice(("shape", "color"))
    direction = rng.choice(("from left to right", "from right to left"))
    if direction == "from right to left":
        ordered.reverse()
    return rng.choice(
        (f"list the {of}s {direction}", f"name the {of}s {direction}", f"what are the {of}s {direction}")
    ), ", ".join(getattr(t, of) for t in ordered)


def number_of_colors(scene, rng):
    where = rng.choice(WHERE)
    return text(
        "how many",
        rng.choice(("", "different")),
        "colors",
        "are there" if where else "do the shapes have",
        where,
    ), str(len({t.color for t in scene.things}))


# Weights of the kinds. Kinds that few scenes allow have higher weights.
KINDS = {
    color_of: 2,
    shape_of: 2,
    count: 4,
    exists: 3,
    beside: 9,
    is_beside: 5,
    at_edge: 3,
    by_size: 5,
    place: 4,
    more: 1.5,
    in_order: 5,
    number_of_colors: 1,
}
NAMES = [kind.__name__ for kind in KINDS]
FILLERS = ("please tell me,", "tell me", "hey,", "so,", "please,")  # check_prose: allow


def ask(scene, rng, total):
    """Returns `total` questions as (name of the kind, question, answer)."""
    asked = []
    while len(asked) < total:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        found = kind(scene, rng)
        if found is None:
            continue
        question, answer = found
        if rng.random() < 0.04:
            question = f"{rng.choice(FILLERS)} {question}"
        if rng.random() < 0.9:
            question += "?"
        asked.append((kind.__name__, question, answer))
    return asked
