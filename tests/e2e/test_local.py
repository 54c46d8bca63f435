"""Commands that load a model in their process, without a server."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, program
from test_command_line import assert_one_line

DEMO_IMAGE = str(ROOT / "models/demo/demo.png")
QUESTIONS = ["how many things are in the image?", "is there a square?"]


def run(*arguments, **options):
    command = [program(), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def results(completed):
    """Returns the results of a command with --json, without times, sorted."""
    assert completed.returncode == 0, completed.stderr
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    return sorted(({**line, "timing": None} for line in lines), key=json.dumps)


def test_local_answers_equal_those_of_a_server(demo):
    arguments = ["ask", DEMO_IMAGE, "-q", QUESTIONS[0], "-q", QUESTIONS[1], "--json"]
    expected = results(run(*arguments, "--server", demo.address))
    assert [line["answer"] for line in expected] == ["5", "yes"]
    assert results(run(*arguments, "--local", "--device", "cpu")) == expected
    assert results(run(*arguments, "--model", "demo", "--device", "cpu")) == expected


@pytest.mark.parametrize(
    "command, field",
    [(["caption"], "caption"), (["match", "-t", "a red circle"], "probability"), (["embed"], "embedding")],
)
def test_every_task_has_a_demo_model(command, field):
    (line,) = results(run(*command, DEMO_IMAGE, "--local", *([] if command == ["embed"] else ["--json"])))
    assert line[field]


def test_record_file_equals_that_of_a_server(demo, tmp_path):
    records = [{"id": at, "image": DEMO_IMAGE, "question": f"is there a square {at}?"} for at in range(300)]
    records += [{"id": 300, "image": "nowhere.png", "question": "what?"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def output(name, *options):
        path = tmp_path / name
        completed = run("ask", "-i", tmp_path / "in.jsonl", "-o", path, *options)
        assert completed.returncode == 1, completed.stderr
        assert "asking: 301 lines, 1 failed" in completed.stderr
        return [{**json.loads(line), "timing": None} for line in path.read_text().splitlines()]

    expected = output("server.jsonl", "-s", demo.address)
    assert len(expected) == 301
    assert output("local.jsonl", "--local", "--in-flight", "1024") == expected


def test_folder_with_output_is_resumed(tmp_path, demo_image):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a", "b", "c"):
        (photos / f"{name}.png").write_bytes(demo_image)
    output = tmp_path / "answers.jsonl"
    command = ["ask", photos, "-q", QUESTIONS[0], "-q", QUESTIONS[1], "-o", output, "--local"]
    completed = run(*command)
    assert completed.returncode == 0, completed.stderr
    lines = output.read_text().splitlines()
    expected = [(str(photos / f"{name}.png"), question) for name in ("a", "b", "c") for question in QUESTIONS]
    assert [(line["image"], line["question"]) for line in map(json.loads, lines)] == expected
    assert_one_line(run(*command), 1, "already exists", "--resume")
    output.write_text("\n".join(lines[:3]) + "\n" + lines[3][:20])
    assert run(*command, "--resume").returncode == 0
    resumed = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["image"], line["question"], line["answer"]) for line in resumed] == [
        (line["image"], line["question"], line["answer"]) for line in map(json.loads, lines)
    ]


def test_settings_of_serve_apply_except_for_its_clients(tmp_path):
    (tmp_path / "settings.toml").write_text(
        "[model]\nsource = 'demo-caption'\ndevice = 'cpu'\n"
        "[auth]\nkeys = ['correct-horse']\n[grpc]\nlisten = '0.0.0.0:1'\n[drain]\ngrace_s = '1h'\n"
    )
    completed = run("caption", DEMO_IMAGE, "--local", "--config", tmp_path / "settings.toml")
    assert completed.returncode == 0, completed.stderr
    environment = {**os.environ, "BLIP_SERVE__CONFIG": str(tmp_path / "settings.toml")}
    completed = run("ask", DEMO_IMAGE, "-q", "what?", "--local", env=environment)
    assert completed.returncode == 1 and "no model answers questions" in completed.stderr, completed.stderr
    environment = {**os.environ, "BLIP_SERVE__LIMITS__MAX_IMAGE_BYTES": "1KiB"}
    completed = run("ask", DEMO_IMAGE, "-q", "what?", "--local", env=environment)
    assert completed.returncode == 1 and "1024 bytes" in completed.stderr, completed.stderr


def test_model_that_cannot_be_loaded_is_one_line(tmp_path):
    ask = ["ask", DEMO_IMAGE, "-q", "what?"]
    assert_one_line(run(*ask, "-m", "nowhere"), 1, "nowhere", "not an embedded model", "add --server")
    assert_one_line(run(*ask, "--local", "-m", tmp_path / "none"), 1, "does not exist")
    assert_one_line(run(*ask, "--local", "-m", tmp_path), 1, "config.json")
    assert_one_line(run(*ask, "--local", "--device", "cuda"), 1, "cuda")
    assert_one_line(run(*ask, "--local", "--dtype", "f8"), 2, "f8", "bf16")
    assert_one_line(run(*ask, "--local", "--vision-dtype", "int8", "--dtype", "f16"), 1, "int8", "f32")


def test_options_that_do_not_fit_together_are_usage_errors(demo):
    ask = ["ask", DEMO_IMAGE, "-q", "what?"]
    assert_one_line(run(*ask, "--local", "--server", demo.address), 2, "omit --server")
    assert_one_line(run(*ask, "--device", "cpu"), 2, "--device", "--local")
    assert_one_line(run(*ask, "--config", "a.toml", "--server", demo.address), 2, "--config", "--local")
    # A server in the environment is only a default.
    environment = {**os.environ, "BLIP_SERVE__SERVER": "http://127.0.0.1:1"}
    assert run(*ask, "--local", env=environment).returncode == 0
    assert_one_line(run(*ask, "--model", "demo", env=environment), 1, "cannot reach http://127.0.0.1:1")


def children(pid):
    """Returns the processes that any thread of a process has started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition):
    for _ in range(1_000_000):
        if condition():
            return
    raise AssertionError("condition never met")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_command_leaves_no_process(tmp_path, number, code):
    output = tmp_path / "out.jsonl"
    command = [program(), "ask", "--input", "-", "--output", output, "--local", "--device", "cpu"]
    records = [{"image": DEMO_IMAGE, "question": f"is there a square {at}?"} for at in range(1000)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.writelines(json.dumps(record) + "\n" for record in records)
    process.stdin.flush()
    # The input stays open, so that the command cannot end by itself.
    until(lambda: output.exists() and output.stat().st_size > 0)
    workers = children(process.pid)
    assert workers
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    process.stdin.close()
    assert "use --resume to continue" in process.stderr.read()
    process.stderr.close()
    until(lambda: not any(map(is_running, workers)))


def test_local_eval_computes_accuracy(tmp_path, demo_image):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").write_bytes(demo_image)
    questions = [{"question_id": 7, "image_id": 1, "question": "is there a square?"}]
    (tmp_path / "questions.json").write_text(json.dumps({"questions": questions}))
    answers = [{"answer": "yes"}] * 10
    annotations = [{"question_id": 7, "question_type": "is", "answer_type": "yes/no", "answers": answers}]
    (tmp_path / "annotations.json").write_text(json.dumps({"annotations": annotations}))
    completed = run(
        *("eval", "--questions", tmp_path / "questions.json", "--images", tmp_path / "images"),
        *("--image-pattern", "{image_id}.png", "--annotations", tmp_path / "annotations.json"),
        *("--results", tmp_path / "results.json", "--local"),
    )
    assert completed.returncode == 0, completed.stderr
    assert json.loads((tmp_path / "results.json").read_text()) == [{"question_id": 7, "answer": "yes"}]
    assert "100.00%" in completed.stdout
