"""Evaluation of captions and of retrieval on generated scenes, with the demo models."""

import json
import random
import subprocess
import sys

import pytest
from conftest import ROOT, program

sys.path.append(str(ROOT / "models/training"))
from demo.data import captions, scenes  # noqa: E402

SCENES = 24


def run(*arguments):
    """Runs `blip-serve eval` with a model in its process, unless an option names a server."""
    local = () if "--server" in arguments else ("--local", "--device", "cpu", "--engine-threads", "1")
    command = [program(), "eval", *map(str, arguments), *local]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of scenes with one to three things each, and their distinct true captions."""
    folder, rng, texts = tmp_path_factory.mktemp("scenes"), random.Random(11), []
    while len(texts) < SCENES:
        scene = scenes.sample(rng, count=rng.randint(1, 3))
        text = captions.write(captions.phrases(captions.kinds(scene)))
        if text not in texts:
            scenes.draw(scene).save(folder / f"{len(texts)}.png")
            texts.append(text)
    return folder, texts


def coco_file(folder, texts, name="annotations.json", **changes):
    """Writes the captions in COCO's format. Returns the path."""
    images = [{"id": at, "file_name": f"{at}.png"} for at in range(len(texts))]
    notes = [{"id": at, "image_id": at, "caption": f"{text.capitalize()}."} for at, text in enumerate(texts)]
    (folder / name).write_text(json.dumps({"images": images, "annotations": notes, **changes}))
    return folder / name


def test_caption_eval_scores_captions_and_resumes(data, tmp_path):
    images, texts = data
    results = tmp_path / "results.json"
    options = ("--annotations", coco_file(tmp_path, texts), "--images", images, "--results", results)
    done = run("caption", *options, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    written = json.loads(results.read_text())
    assert [result["image_id"] for result in written] == list(range(SCENES))
    right = sum(result["caption"] == text for result, text in zip(written, texts, strict=True))
    # The model card states 90 % of true captions or more for up to three things.
    assert right >= 0.7 * SCENES and metrics["images"] == SCENES
    assert 0.8 < metrics["scores"]["Bleu_4"] <= 1 and metrics["scores"]["CIDEr"] > 7
    # Metrics of a complete file need neither a model nor a server.
    table = run("caption", *options, "--resume", "--server", "http://127.0.0.1:1")
    bleu = f"{100 * metrics['scores']['Bleu_1']:.2f}"
    assert (table.returncode, table.stdout.splitlines()[1].split()) == (0, ["Bleu-1", bleu])
    assert run("caption", *options).returncode == 1

    results.unlink()
    first = [{"id": at, "image": f"{at}.png", "caption": "earlier"} for at in range(5)]
    lines = "".join(json.dumps(line) + "\n" for line in first)
    (tmp_path / "results.json.partial.jsonl").write_text(lines + '{"torn')
    resumed = run("caption", *options, "--resume")
    assert resumed.returncode == 0 and f"{SCENES - 5} lines" in resumed.stderr, resumed.stderr
    again = json.loads(results.read_text())
    assert [result["caption"] for result in again[:5]] == ["earlier"] * 5 and again[5:] == written[5:]
    assert list(tmp_path.glob("*.partial.jsonl")) == []


def test_paper_protocol_leaves_out_the_prompt(data, tmp_path):
    images, texts = data
    results = tmp_path / "results.json"
    file = coco_file(tmp_path, texts[:6], annotations=[])
    done = run(
        *("caption", "--annotations", file, "--images", images, "--results", results, "--protocol", "paper")
    )
    assert done.returncode == 0 and "metrics are not computed" in done.stderr, done.stderr
    written = [result["caption"] for result in json.loads(results.read_text())]
    assert len(written) == 6 and all(text and not text.startswith("a pic") for text in written)
    assert sum(caption == text for caption, text in zip(written, texts, strict=False)) >= 4


def test_missing_image_has_an_empty_caption_and_an_error(data, tmp_path):
    images, texts = data
    results = tmp_path / "results.json"
    listed = [{"id": 0, "file_name": "0.png"}, {"id": 1, "file_name": "absent.png"}]
    file = coco_file(tmp_path, texts[:2], images=listed)
    done = run("caption", "--annotations", file, "--images", images, "--results", results)
    assert done.returncode == 1
    assert "image absent.png: cannot read " in done.stderr and "IMAGE_UNREADABLE" in done.stderr
    written = json.loads(results.read_text())
    assert written[0]["caption"] == texts[0] and written[1] == {"image_id": 1, "caption": ""}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"images": [', "EOF while parsing"),
        ('{"images": []}', "images is empty"),
        ('{"images": [{"id": "x"}]}', "images[0].id: invalid type"),
        ('{"images": [{"id": 1}]}', "images[0].file_name is missing"),
        (
            '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1}]}',
            "annotations[0]: missing field `caption`",
        ),
        (
            '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 2, "caption": ""}]}',
            "annotations[0].image_id is 2: no image has this id",
        ),
    ],
)
def test_invalid_annotations_are_refused(tmp_path, content, expected):
    (tmp_path / "a.json").write_text(content)
    done = run(
        *("caption", "--annotations", tmp_path / "a.json", "--images", tmp_path),
        *("--results", tmp_path / "results.json"),
    )
    assert done.returncode == 1 and done.stdout == "", done
    assert str(tmp_path / "a.json") in done.stderr and expected in done.stderr, done.stderr
    assert not (tmp_path / "results.json").exists()


def karpathy_file(folder, texts):
    """Writes the pairs as Karpathy's splits: all but two images are in the split test."""
    images = [
        {"filename": f"{at}.png", "split": "val" if at < 2 else "test", "sentences": [{"raw": text + " ."}]}
        for at, text in enumerate(texts)
    ]
    (folder / "splits.json").write_text(json.dumps({"dataset": "scenes", "images": images}))
    return folder / "splits.json"


def test_retrieval_finds_texts_and_images_and_resumes(data, tmp_path):
    images, texts = data
    results = tmp_path / "results.json"
    options = ("--data", karpathy_file(tmp_path, texts), "--images", images, "--results", results, "-k", "8")
    done = run("retrieval", *options, "--protocol", "paper", "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert (metrics["images"], metrics["texts"], metrics["k"]) == (SCENES - 2, SCENES - 2, 8)
    for direction in ("image_to_text", "text_to_image"):
        recall = metrics[direction]
        # The model card states 95 % for groups of 100 images, with the cosine alone.
        assert recall["r1"] >= 80 and recall["r1"] <= recall["r5"] <= recall["r10"] <= 100
    written = json.loads(results.read_text())
    assert written["texts"][3]["text"] == texts[5] and len(written["images"][0]["texts"]) == 8
    scores = [score for _, score in written["images"][0]["texts"]]
    assert scores == sorted(scores, reverse=True)
    table = run("retrieval", *options, "--resume", "--server", "http://127.0.0.1:1")
    assert table.returncode == 0 and "image to text" in table.stdout, table.stderr
    assert list(tmp_path.glob("*.partial.jsonl")) == []

    # The simple format, and a run that was stopped while it matched.
    pairs = [{"image": f"{at}.png", "caption": [text]} for at, text in enumerate(texts) if at >= 2]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    other = tmp_path / "other.json"
    options = ("--data", tmp_path / "pairs.json", "--images", images, "--results", other, "-k", "8")
    (tmp_path / "other.json.matching.partial.jsonl").write_text('{"torn')
    resumed = run("retrieval", *options, "--protocol", "paper", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    again = json.loads(other.read_text())
    assert again["text_to_image"] == written["text_to_image"]
    assert again["image_to_text"] == written["image_to_text"]
    # Another batch composition can change the last digits.
    for one, two in zip(again["images"], written["images"], strict=True):
        assert [text for text, _ in one["texts"][:1]] == [text for text, _ in two["texts"][:1]]
        assert one["texts"][0][1] == pytest.approx(two["texts"][0][1], abs=1e-4)


def test_invalid_retrieval_data_is_refused(data, tmp_path):
    images, texts = data
    file = karpathy_file(tmp_path, texts)
    options = ("--images", images, "--results", tmp_path / "results.json")
    unknown = run("retrieval", "--data", file, "--split", "tset", *options)
    assert unknown.returncode == 1 and f"{file} has test (22 images), val (2 images)" in unknown.stderr
    (tmp_path / "absent.json").write_text(json.dumps([{"image": "absent.png", "caption": ["a"]}]))
    absent = run("retrieval", "--data", tmp_path / "absent.json", *options)
    assert absent.returncode == 1 and str(images / "absent.png") in absent.stderr, absent.stderr
    assert str(tmp_path / "absent.json") in absent.stderr
    (tmp_path / "broken.json").write_text('{"images": [{"filename": "0.png", "split": "test"}]}')
    broken = run("retrieval", "--data", tmp_path / "broken.json", *options)
    assert broken.returncode == 1 and "images[0]: missing field `sentences`" in broken.stderr, broken.stderr


def test_subcommand_excludes_options_of_plain_eval(tmp_path):
    mixed = run("--questions", tmp_path / "q.json", "caption")
    assert mixed.returncode == 2 and len(mixed.stderr.splitlines()) == 1, mixed.stderr
    named = run(
        *("vqa", "--questions", tmp_path / "q.json", "--images", tmp_path, "--results", tmp_path / "r.json")
    )
    plain = run("--questions", tmp_path / "q.json", "--images", tmp_path, "--results", tmp_path / "r.json")
    assert named.stderr == plain.stderr and "cannot read" in plain.stderr, plain.stderr
    help_text = run("--help").stdout
    assert "--questions" in help_text and "retrieval" in help_text
