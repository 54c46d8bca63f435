"""The evaluation command on a small part of a public data set."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, program

sys.path.append(str(ROOT / "models/training"))
from demo.data import easy_vqa_set  # noqa: E402


def run(*arguments):
    """Runs `blip-serve eval`."""
    return subprocess.run(
        [program(), "eval", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def files(tmp_path):
    """The output of the converter: the questions about 20 images."""
    command = [
        sys.executable,
        "-B",
        str(ROOT / "tests/reference/easy_vqa_to_vqa2.py"),
        "--output",
        str(tmp_path),
        "--images",
        "20",
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    images = output.split("images: ")[1].split(",")[0]
    return tmp_path, (
        "--questions",
        tmp_path / "questions.json",
        "--images",
        images,
        "--image-pattern",
        "{image_id}.png",
    )


def test_eval_accuracy_equals_fraction_of_correct_answers(demo, files):
    folder, options = files
    results, annotations = folder / "results.json", ("--annotations", folder / "annotations.json")
    done = run(*options, *annotations, "--results", results, "--server", f"http://{demo.address}")
    assert done.returncode == 0, done
    _, questions = easy_vqa_set.load()
    expected = {
        at: question.answer
        for at, question in enumerate(question for question in questions if question.image < 20)
    }
    answers = {answer["question_id"]: answer["answer"] for answer in json.loads(results.read_text())}
    assert answers.keys() == expected.keys() and list(folder.glob("*.partial.jsonl")) == []
    right = sum(answers[at] == expected[at] for at in expected)
    overall = next(line for line in done.stdout.splitlines() if line.startswith("overall"))
    assert overall.split() == ["overall", str(len(expected)), f"{100 * right / len(expected):.2f}%"]
    assert "answer type: yes/no" in done.stdout and "question type: " in done.stdout
    again = run(*options, *annotations, "--results", results, "--server", "http://127.0.0.1:1", "--resume")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert run(*options, "--results", results).returncode == 1


def test_eval_without_annotations_resumes_partial_file(demo, files):
    folder, options = files
    results = folder / "results.json"
    server = ("--server", f"http://{demo.address}")
    assert run(*options, "--results", results, *server).stdout == ""
    whole = json.loads(results.read_text())
    questions = sorted(
        json.loads((folder / "questions.json").read_text())["questions"],
        key=lambda question: question["image_id"],
    )
    first = [
        {"id": question["question_id"], "image": f"{question['image_id']}.png", "answer": "earlier"}
        for question in questions[:5]
    ]
    results.unlink()
    (folder / "results.json.partial.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in first) + '{"torn'
    )
    done = run(*options, "--results", results, *server, "--resume")
    assert done.returncode == 0, done
    assert f"{len(whole) - 5} lines" in done.stderr
    resumed = json.loads(results.read_text())
    assert [answer["answer"] for answer in resumed[:5]] == ["earlier"] * 5 and resumed[5:] == whole[5:]
