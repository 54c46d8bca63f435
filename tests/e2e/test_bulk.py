"""The client commands, on single images and on record files."""

import csv
import json
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, program

IMAGE = str(ROOT / "models/demo/demo.png")
QUESTIONS = (
    "how many circles are in the picture?",
    "is there a square?",
    "what shape is to the left of the rectangle?",
)


def run(*arguments, stdin=None):
    """Runs the program."""
    return subprocess.run(
        [program(), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path, demo_image):
    """A folder with images in a subfolder, a file that is not an image, and a broken image."""
    (tmp_path / "images/more").mkdir(parents=True)
    for name in ("images/b.png", "images/more/a.PNG"):
        (tmp_path / name).write_bytes(demo_image)
    (tmp_path / "images/notes.txt").write_text("ignored")
    (tmp_path / "broken.png").write_text("not an image")
    return tmp_path


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_ask_folder_answers_every_image(demo, folder):
    completed = run(
        "ask",
        "--server",
        f"http://{demo.address}",
        "--json",
        "--question",
        QUESTIONS[0],
        folder / "images",
        IMAGE,
    )
    assert completed.returncode == 0, completed
    answers = sorted(lines(completed.stdout), key=lambda line: line["image_index"])
    names = [str(folder / "images/b.png"), str(folder / "images/more/a.PNG"), IMAGE]
    assert [line["image"] for line in answers] == names
    assert len({line["answer"] for line in answers}) == 1


def test_output_keeps_input_order_and_invalid_lines_fail_alone(demo, folder):
    records = [
        {"id": f"q{at}", "image": "images/b.png" if at % 5 else IMAGE, "question": QUESTIONS[at % 3]}
        for at in range(60)
    ]
    records[7] = {"id": "broken", "image": "broken.png", "question": "what?"}
    records[11] = {"id": "absent", "image": "no/such.png", "question": "what?"}
    records[12] = {"id": "silent", "image": "images/b.png", "question": " "}
    records[13] = {"id": "odd", "image": "images/b.png", "question": 3}
    records_file = write(folder / "questions.jsonl", records)
    with records_file.open("a") as file:
        file.write("nonsense\n")
    output = folder / "answers.jsonl"
    completed = run("ask", "--server", f"http://{demo.address}", "--input", records_file, "--output", output)
    assert completed.returncode == 1
    assert completed.stderr.startswith("asking: 61 lines, 5 failed, "), completed.stderr
    answers = lines(output.read_text())
    assert [line.get("id") for line in answers] == [record["id"] for record in records] + [None]
    reasons = {line.get("id"): line["error"]["reason"] for line in answers if "error" in line}
    assert reasons == {
        "broken": "IMAGE_FORMAT_UNKNOWN",
        "absent": "IMAGE_UNREADABLE",
        "silent": "QUESTION_EMPTY",
        "odd": "LINE_INVALID",
        None: "LINE_INVALID",
    }
    expected = {
        question: demo.client.outcomes([(Path(IMAGE).read_bytes(), [question])])[0, 0].text
        for question in QUESTIONS
    }
    good = [line for line in answers if "answer" in line]
    assert len(good) == 56 and all(line["answer"] == expected[line["question"]] for line in good)


def test_csv_is_read_and_written_in_files_and_pipes(demo, folder):
    table = 'id,image,question\n007,images/b.png,"what is it, a square?"\n8,broken.png,what?\n'
    (folder / "questions.csv").write_text(table)
    output = folder / "answers.csv"
    server = ("--server", f"http://{demo.address}")
    assert run("ask", *server, "--input", folder / "questions.csv", "--output", output).returncode == 1
    with output.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["question"], first["error"]) == ("007", "what is it, a square?", "")
    assert first["answer"] and float(first["score"]) <= 0
    assert json.loads(second["error"])["reason"] == "IMAGE_FORMAT_UNKNOWN" and not second["answer"]
    piped = run(
        "ask",
        *server,
        "--input",
        "-",
        "--format",
        "csv",
        stdin=f"image,question\n{IMAGE},is there a square?\n",
    )
    assert piped.returncode == 0, piped
    assert piped.stdout.splitlines()[0].startswith("id,image,question,answer,")


def test_killed_run_resumes_to_complete_output(start, folder):
    server = start()
    records = [
        {"id": at, "image": "images/b.png", "question": f"{QUESTIONS[at % 3]} {at}"} for at in range(800)
    ]
    records_file, output = write(folder / "questions.jsonl", records), folder / "answers.jsonl"
    command = [
        program(),
        "ask",
        "--server",
        f"http://{server.address}",
        "--input",
        str(records_file),
        "--output",
        str(output),
    ]
    for ending in (signal.SIGKILL, signal.SIGINT):
        before = output.stat().st_size if output.exists() else 0
        with subprocess.Popen([*command, "--resume"], stderr=subprocess.PIPE, text=True) as process:
            while not output.exists() or output.stat().st_size <= before:
                assert process.poll() is None, process.stderr.read()
            process.send_signal(ending)
            stderr = process.stderr.read()
        assert process.returncode == (130 if ending == signal.SIGINT else -ending)
    assert "use --resume to continue" in stderr
    partial = output.read_text()
    assert 0 < partial.count("\n") < len(records)
    rejected = run(*command[1:])
    assert (rejected.returncode, output.read_text()) == (1, partial)
    assert "already exists" in rejected.stderr and rejected.stderr.count("\n") == 1
    with output.open("a") as file:
        file.write('{"id": 12, "torn')
    finished = run(*command[1:], "--resume")
    assert finished.returncode == 0, finished
    assert [line["id"] for line in lines(output.read_text())] == list(range(800))
    assert all("answer" in line for line in lines(output.read_text()))


def test_retry_failed_replaces_failed_lines_only(demo, folder):
    records = [
        {"id": at, "image": f"images/{'b' if at % 4 else 'late'}.png", "question": QUESTIONS[at % 3]}
        for at in range(12)
    ]
    records_file, output = write(folder / "questions.jsonl", records[:8]), folder / "answers.jsonl"
    command = ("ask", "--server", f"http://{demo.address}", "--input", records_file, "--output", output)
    assert run(*command).returncode == 1
    before = output.read_text().splitlines()
    assert [at for at, line in enumerate(lines(output.read_text())) if "error" in line] == [0, 4]
    (folder / "images/late.png").write_bytes((folder / "images/b.png").read_bytes())
    write(records_file, records)
    again = run(*command, "--retry-failed")
    assert again.returncode == 0, again
    assert [line.split(", ")[:2] for line in again.stderr.splitlines()] == [
        ["retrying: 2 lines", "0 failed"],
        ["asking: 4 lines", "0 failed"],
    ]
    after = output.read_text().splitlines()
    assert [line["id"] for line in lines(output.read_text())] == list(range(12))
    assert all("answer" in line for line in lines(output.read_text()))
    assert [at for at in range(8) if before[at] != after[at]] == [0, 4]
    assert sorted(path.name for path in folder.glob(".*")) == []


def test_failed_streamed_caption_prints_nothing_to_stdout(start, folder):
    server = start("--model", "demo-caption")
    completed = run(
        "caption",
        "--server",
        f"http://{server.address}",
        "--stream",
        folder / "broken.png",
        folder / "images/b.png",
    )
    assert completed.returncode == 1
    (error,) = completed.stderr.splitlines()
    assert error.startswith(f"{folder / 'broken.png'}  -> error: ") and error.endswith(
        "(IMAGE_FORMAT_UNKNOWN)"
    )
    (caption,) = completed.stdout.splitlines()
    assert caption.startswith(f"{folder / 'images/b.png'}  -> ")


def test_unanswered_records_are_sent_to_restarted_server(start, folder):
    first = start(connect=False)
    records = [
        {"id": at, "image": "images/b.png", "question": f"{QUESTIONS[at % 3]} {at}"} for at in range(800)
    ]
    records_file, output = write(folder / "questions.jsonl", records), folder / "answers.jsonl"
    command = [
        program(),
        "ask",
        "--server",
        f"http://{first.address}",
        "--input",
        str(records_file),
        "--output",
        str(output),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not output.exists() or not output.stat().st_size:
            assert process.poll() is None, process.stderr.read()
        first.process.kill()
        first.process.wait()
        start(listen=first.address, connect=False)
        stderr = process.stderr.read()
    assert process.returncode == 0, stderr
    assert [line["id"] for line in lines(output.read_text())] == list(range(800))


def test_lost_server_without_retries_ends_run_in_one_line(start, folder):
    server = start(connect=False)
    records = [
        {"id": at, "image": "images/b.png", "question": f"{QUESTIONS[at % 3]} {at}"} for at in range(800)
    ]
    records_file, output = write(folder / "questions.jsonl", records), folder / "answers.jsonl"
    command = [
        program(),
        "ask",
        "--server",
        f"http://{server.address}",
        "--input",
        str(records_file),
        "--output",
        str(output),
        "--retry-timeout-s",
        "0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not output.exists() or not output.stat().st_size:
            assert process.poll() is None, process.stderr.read()
        server.process.kill()
        stderr = process.stderr.read()
    assert process.returncode == 1 and stderr.count("\n") == 1, stderr
    answers = lines(output.read_text())
    assert [line["id"] for line in answers] == list(range(len(answers))) and len(answers) < 800


@pytest.mark.parametrize(
    "options, message",
    [
        (("ask", "--image", IMAGE), "--question"),
        (("ask", "--input", "-", IMAGE), "cannot be used with"),
        (
            ("ask", "--image", IMAGE, "--question", "what?", "--num-beams", "3", "--sample"),
            "cannot be used with",
        ),
        (("ask", "--input", "-", "--format", "xml"), "must be jsonl or csv"),
        (("ask", "--input", "-", "--retry-failed", "--force"), "cannot be used with"),
        (("match", IMAGE), "--text"),
        (("caption", IMAGE, "--stream", "--num-beams", "3"), "cannot be used with"),
    ],
)
def test_invalid_command_line_prints_one_line(options, message):
    completed = run(*options)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert message in completed.stderr and completed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, option",
    [
        ([IMAGE, "--resume"], "--resume"),
        ([IMAGE, "--force"], "--force"),
        ([IMAGE, "--format", "csv"], "--format"),
        (["--input", "-", "--force"], "--force"),
        (["--input", "-", "--retry-failed"], "--retry-failed"),
        (["--input", "-", "--output", "-", "--resume"], "--resume"),
    ],
)
def test_option_without_effect_is_an_error(arguments, option):
    completed = run("caption", *arguments)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == f"blip-serve: {option} needs --output FILE\n"


def ask(server, *arguments):
    """Runs `ask` with a question, and prints JSON."""
    address = f"http://{server.address}"
    return run("ask", "--server", address, "--json", "--question", QUESTIONS[0], *arguments)


def test_folder_walk_goes_on_past_bad_entries(demo, folder):
    images = folder / "images"
    (images / "gone.png").symlink_to("nowhere")
    (images / "loop").symlink_to(images)
    (Path(str(images)) / b"\xff.png".decode(errors="surrogateescape")).write_bytes(b"")
    completed = ask(demo, images)
    assert completed.returncode == 1
    results = lines(completed.stdout)
    assert sorted(line["image"] for line in results if "answer" in line) == [
        str(images / "b.png"),
        str(images / "more/a.PNG"),
    ]
    messages = [line["error"]["message"] for line in results if "error" in line]
    assert len(messages) == 3
    for message, part in zip(messages, ["gone.png", "leads back to", "\\xFF.png"], strict=True):
        assert part in message


def test_command_without_images_is_an_error(demo):
    for command in ("ask", "caption", "match", "embed"):
        texts = {"ask": ["--question", "a?"], "match": ["--text", "a"]}.get(command, [])
        completed = run(command, "--server", f"http://{demo.address}", *texts)
        assert (completed.returncode, completed.stdout) == (1, ""), command
        assert "expected a file, a folder, a URL" in completed.stderr


def test_csv_with_lines_that_end_with_cr_is_an_error(demo, tmp_path):
    (tmp_path / "cr.csv").write_bytes(b"id,image,question\r1,demo.png,a?\r")
    output = tmp_path / "out.csv"
    command = ["ask", "--server", f"http://{demo.address}", "--input", tmp_path / "cr.csv", "--output", output]
    completed = run(*command)
    assert completed.returncode == 1
    assert "lines end with CR alone" in completed.stderr


def test_old_error_in_an_input_line_is_replaced(demo, tmp_path):
    record = {"id": 1, "image": IMAGE, "question": QUESTIONS[0], "error": "old"}
    source, output = write(tmp_path / "in.jsonl", [record]), tmp_path / "out.jsonl"
    command = ["ask", "--server", f"http://{demo.address}", "--input", source, "--output", output]
    assert run(*command).returncode == 0
    (line,) = lines(output.read_text())
    assert line["answer"] and "error" not in line
    retried = run(*command, "--retry-failed")
    assert "retrying: 0 lines" in retried.stderr
