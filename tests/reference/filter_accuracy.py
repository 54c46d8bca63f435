"""Measures the filter of `blip-serve capfilt` on drawn scenes, of which every other text is wrong.

    python tests/reference/filter_accuracy.py target/release/blip-serve --scenes 1000

A wrong text is the caption of another scene, and false for its image. With `--wrong one-word`, it
differs from the right caption in one word. The program runs with the demo models. Other options are
those of capfilt.

    precision   right texts among those that pass
    recall      texts that pass among the right ones

The scenes have a seed that training does not use. A synthetic text is right if every phrase of it
is true for the scene.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "models/training"))
from demo.data import captions, scenes  # noqa: E402

SEED = "filter accuracy"


def draw_scenes(count, seed=SEED):
    """Returns `count` scenes as (RGB image, `captions.kinds`)."""
    rng = random.Random(seed)
    drawn = (scenes.sample(rng) for _ in range(count))
    return [(scenes.draw(scene), captions.kinds(scene)) for scene in drawn]


def is_right(text, scene_kinds):
    """Returns whether a text is a caption whose phrases are all true for a scene."""
    try:
        return captions.is_true(captions.read(text), scene_kinds)
    except ValueError:
        return False


def with_one_word_wrong(scene_kinds, rng):
    """Returns the caption of a scene with another colour, shape or number."""
    wrong = None
    while wrong is None:
        change = rng.choice(list(captions.CHANGES))
        wrong = captions.one_word_wrong(captions.phrases(scene_kinds), scene_kinds, change, rng)
    return captions.write(captions.in_order(wrong))


def web_texts(all_kinds, wrong="other-scene", seed=SEED):
    """Returns a text for each scene. Those of odd positions are wrong."""
    rng = random.Random(f"texts of {seed}")
    right = [captions.write(captions.phrases(kinds)) for kinds in all_kinds]
    texts = []
    for at, kinds in enumerate(all_kinds):
        text = right[at]
        while at % 2 and is_right(text, kinds):
            if wrong == "one-word":
                text = with_one_word_wrong(kinds, rng)
            else:
                text = rng.choice(right)
        texts.append(text)
    return texts


def write_records(folder, images, texts):
    """Writes the images, and a record file with their texts. Returns its path."""
    records = []
    for at, (image, text) in enumerate(zip(images, texts, strict=True)):
        image.save(folder / f"{at}.png")
        records.append({"id": at, "image": f"{at}.png", "text": text})
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def shares(judged):
    """Returns precision and recall of (passed, right) pairs, and the share of right texts."""
    right = [passed for passed, is_right in judged if is_right]
    passed = [is_right for passed, is_right in judged if passed]
    return sum(passed) / len(passed), sum(right) / len(right), len(right) / len(judged)


def judge(results, all_kinds, source):
    """Returns (passed, right) for each text of a source, "web" or "synthetic"."""
    return [
        (text["passed"], is_right(text["text"], kinds))
        for result, kinds in zip(results, all_kinds, strict=True)
        for text in result["scored_texts"]
        if text["source"] == source
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--wrong", choices=("other-scene", "one-word"), default="other-scene")
    arguments, options = parser.parse_known_args()
    drawn = draw_scenes(arguments.scenes)
    all_kinds = [kinds for _, kinds in drawn]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        records = write_records(folder, [image for image, _ in drawn], web_texts(all_kinds, arguments.wrong))
        output = folder / "out.jsonl"
        command = [arguments.program, "capfilt", "--local", "--device", "cpu", "-i", records, "-o", output]
        subprocess.run([*command, *options], check=True)
        results = [json.loads(line) for line in output.read_text().splitlines()]
    for source in ("web", "synthetic"):
        judged = judge(results, all_kinds, source)
        precision, recall, before = shares(judged)
        print(f"{source}: {len(judged)} texts, {before:.1%} of them right, ", end="")
        print(f"precision {precision:.1%}, recall {recall:.1%}")


if __name__ == "__main__":
    main()
