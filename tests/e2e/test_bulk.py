"""The client commands of the program, on few images and on files of many."""

import csv
import json
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, program

PICTURE = str(ROOT / "models/demo/demo.png")
QUESTIONS = ("how many circles are in the picture?", "is there a square?", "what shape is to the left of the rectangle?")


def run(*arguments, stdin=None):
    return subprocess.run([program(), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=120, check=False)


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path, picture):
    """Two pictures and something that is none, in a folder with one in it."""
    (tmp_path / "pictures/more").mkdir(parents=True)
    for name in ("pictures/b.png", "pictures/more/a.PNG"):
        (tmp_path / name).write_bytes(picture)
    (tmp_path / "pictures/notes.txt").write_text("not taken")
    (tmp_path / "broken.png").write_text("not a picture")
    return tmp_path


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_folder_is_asked_about_picture_by_picture(demo, folder):
    asked = run("ask", "--server", f"http://{demo.address}", "--json", "--question", QUESTIONS[0], folder / "pictures", PICTURE)
    assert asked.returncode == 0, asked
    answers = sorted(lines(asked.stdout), key=lambda line: line["image_index"])
    names = [str(folder / "pictures/b.png"), str(folder / "pictures/more/a.PNG"), PICTURE]
    assert [line["image"] for line in answers] == names
    assert len({line["answer"] for line in answers}) == 1


def test_answers_are_in_the_order_of_the_input_and_a_wrong_line_fails_alone(demo, folder):
    records = [{"id": f"q{at}", "image": "pictures/b.png" if at % 5 else PICTURE, "question": QUESTIONS[at % 3]} for at in range(60)]
    records[7] = {"id": "broken", "image": "broken.png", "question": "what?"}
    records[11] = {"id": "absent", "image": "no/such.png", "question": "what?"}
    records[12] = {"id": "silent", "image": "pictures/b.png", "question": " "}
    records[13] = {"id": "odd", "image": "pictures/b.png", "question": 3}
    given = write(folder / "questions.jsonl", records)
    with given.open("a") as file:
        file.write("nonsense\n")
    output = folder / "answers.jsonl"
    asked = run("ask", "--server", f"http://{demo.address}", "--input", given, "--output", output)
    assert asked.returncode == 1
    assert asked.stderr.startswith("asking: 61 lines, 5 failed, "), asked.stderr
    answers = lines(output.read_text())
    assert [line.get("id") for line in answers] == [record["id"] for record in records] + [None]
    reasons = {line.get("id"): line["error"]["reason"] for line in answers if "error" in line}
    assert reasons == {"broken": "IMAGE_FORMAT_UNKNOWN", "absent": "IMAGE_UNREADABLE", "silent": "QUESTION_EMPTY",
                       "odd": "LINE_INVALID", None: "LINE_INVALID"}
    expected = {question: demo.client.outcomes([(Path(PICTURE).read_bytes(), [question])])[0, 0].text for question in QUESTIONS}
    good = [line for line in answers if "answer" in line]
    assert len(good) == 56 and all(line["answer"] == expected[line["question"]] for line in good)


def test_csv_goes_in_and_out_and_by_standard_input_and_output_too(demo, folder):
    table = "id,image,question\n007,pictures/b.png,\"is there, perhaps, a square?\"\n8,broken.png,what?\n"
    (folder / "questions.csv").write_text(table)
    output = folder / "answers.csv"
    server = ("--server", f"http://{demo.address}")
    assert run("ask", *server, "--input", folder / "questions.csv", "--output", output).returncode == 1
    with output.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["question"], first["error"]) == ("007", "is there, perhaps, a square?", "")
    assert first["answer"] and float(first["score"]) <= 0
    assert json.loads(second["error"])["reason"] == "IMAGE_FORMAT_UNKNOWN" and not second["answer"]
    piped = run("ask", *server, "--input", "-", "--format", "csv", stdin=f"image,question\n{PICTURE},is there a square?\n")
    assert piped.returncode == 0, piped
    assert piped.stdout.splitlines()[0].startswith("id,image,question,answer,")


def test_a_run_that_was_killed_is_gone_on_with_and_ends_as_if_it_had_not_been(start, folder):
    server = start()
    records = [{"id": at, "image": "pictures/b.png", "question": f"{QUESTIONS[at % 3]} {at}"} for at in range(800)]
    given, output = write(folder / "questions.jsonl", records), folder / "answers.jsonl"
    command = [program(), "ask", "--server", f"http://{server.address}", "--input", str(given), "--output", str(output)]
    for ending in (signal.SIGKILL, signal.SIGINT):
        before = output.stat().st_size if output.exists() else 0
        with subprocess.Popen([*command, "--resume"], stderr=subprocess.PIPE, text=True) as process:
            while not output.exists() or output.stat().st_size <= before:
                assert process.poll() is None, process.stderr.read()
            process.send_signal(ending)
            said = process.stderr.read()
        assert process.returncode == (130 if ending == signal.SIGINT else -ending)
    assert "--resume goes on" in said
    done = output.read_text()
    assert 0 < done.count("\n") < len(records)
    refused = run(*command[1:])
    assert (refused.returncode, output.read_text()) == (1, done)
    assert "exists" in refused.stderr and refused.stderr.count("\n") == 1
    with output.open("a") as file:
        file.write('{"id": 12, "torn')
    finished = run(*command[1:], "--resume")
    assert finished.returncode == 0, finished
    assert [line["id"] for line in lines(output.read_text())] == list(range(800))
    assert all("answer" in line for line in lines(output.read_text()))


def test_lines_that_failed_are_asked_again_and_the_others_stay_as_they_are(demo, folder):
    records = [{"id": at, "image": f"pictures/{'b' if at % 4 else 'late'}.png", "question": QUESTIONS[at % 3]} for at in range(12)]
    given, output = write(folder / "questions.jsonl", records[:8]), folder / "answers.jsonl"
    command = ("ask", "--server", f"http://{demo.address}", "--input", given, "--output", output)
    assert run(*command).returncode == 1
    before = output.read_text().splitlines()
    assert [at for at, line in enumerate(lines(output.read_text())) if "error" in line] == [0, 4]
    (folder / "pictures/late.png").write_bytes((folder / "pictures/b.png").read_bytes())
    write(given, records)
    again = run(*command, "--retry-failed")
    assert again.returncode == 0, again
    assert [line.split(", ")[:2] for line in again.stderr.splitlines()] == [["asking again: 2 lines", "0 failed"], ["asking: 4 lines", "0 failed"]]
    after = output.read_text().splitlines()
    assert [line["id"] for line in lines(output.read_text())] == list(range(12))
    assert all("answer" in line for line in lines(output.read_text()))
    assert [at for at in range(8) if before[at] != after[at]] == [0, 4]
    assert sorted(path.name for path in folder.glob(".*")) == []


def test_a_streamed_caption_that_fails_leaves_nothing_on_standard_output(start, folder):
    server = start("--model", "demo-caption")
    told = run("caption", "--server", f"http://{server.address}", "--stream", folder / "broken.png", folder / "pictures/b.png")
    assert told.returncode == 1
    (error,) = told.stderr.splitlines()
    assert error.startswith(f"{folder / 'broken.png'}  -> error: ") and error.endswith("(IMAGE_FORMAT_UNKNOWN)")
    (caption,) = told.stdout.splitlines()
    assert caption.startswith(f"{folder / 'pictures/b.png'}  -> ")


def test_what_a_lost_server_has_not_answered_is_asked_of_the_next_one(start, folder):
    first = start(connect=False)
    records = [{"id": at, "image": "pictures/b.png", "question": f"{QUESTIONS[at % 3]} {at}"} for at in range(800)]
    given, output = write(folder / "questions.jsonl", records), folder / "answers.jsonl"
    command = [program(), "ask", "--server", f"http://{first.address}", "--input", str(given), "--output", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not output.exists() or not output.stat().st_size:
            assert process.poll() is None, process.stderr.read()
        first.process.kill()
        first.process.wait()
        start(listen=first.address, connect=False)
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert [line["id"] for line in lines(output.read_text())] == list(range(800))


def test_without_patience_a_lost_server_ends_the_run_in_one_line(start, folder):
    server = start(connect=False)
    records = [{"id": at, "image": "pictures/b.png", "question": f"{QUESTIONS[at % 3]} {at}"} for at in range(800)]
    given, output = write(folder / "questions.jsonl", records), folder / "answers.jsonl"
    command = [program(), "ask", "--server", f"http://{server.address}", "--input", str(given), "--output", str(output), "--patience-s", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not output.exists() or not output.stat().st_size:
            assert process.poll() is None, process.stderr.read()
        server.process.kill()
        said = process.stderr.read()
    assert process.returncode == 1 and said.count("\n") == 1, said
    answers = lines(output.read_text())
    assert [line["id"] for line in answers] == list(range(len(answers))) and len(answers) < 800


@pytest.mark.parametrize("options, said", [
    (("ask", "--image", PICTURE), "--question"),
    (("ask", "--input", "-", "--question", "what?"), "cannot be used with"),
    (("ask", "--input", "-", PICTURE), "cannot be used with"),
    (("ask", "--image", PICTURE, "--question", "what?", "--num-beams", "3", "--sample"), "cannot be used with"),
    (("ask", "--input", "-", "--format", "xml"), "must be jsonl or csv"),
    (("ask", "--input", "-", "--retry-failed", "--force"), "cannot be used with"),
    (("match", PICTURE), "--text"),
    (("caption", PICTURE, "--stream", "--num-beams", "3"), "cannot be used with"),
])
def test_a_wrong_command_line_is_one_clear_line(options, said):
    refused = run(*options)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr and refused.stderr.count("\n") == 1
