"""Checkpoint formats: serving, download and conversion."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT, program
from hub_server import MODEL, HubServer

QUESTIONS = ["how many red dogs?", "is there a circle in the picture?", "what color is the box?"]
GOLDEN = ROOT / "crates/blip/tests/goldens/vocab_txt"
PICKLES = ROOT / "crates/blip/tests/pickles"
OTHER_FILES = ["config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.txt"]


def run(*arguments):
    """Runs the program."""
    return subprocess.run([program(), *map(str, arguments)], capture_output=True, text=True)


def answers(server, demo_image):
    """Returns the answers by question index."""
    responses = server.client.ask([(demo_image, QUESTIONS)])
    by_question = {response.question_index: response.answer for response in responses}
    assert len(by_question) == len(QUESTIONS)
    return by_question


def assert_same(answers, expected):
    """Checks that texts are equal and scores close. Their last digits depend on the batch size."""
    assert {index: answer.text for index, answer in answers.items()} == {
        index: answer.text for index, answer in expected.items()
    }
    scores = {index: pytest.approx(answer.score, abs=1e-3) for index, answer in expected.items()}
    assert {index: answer.score for index, answer in answers.items()} == scores


@pytest.fixture
def folder(tmp_path):
    """A model folder without weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in OTHER_FILES:
        shutil.copy(GOLDEN / name, folder)
    return folder


def test_pickle_and_original_file_answer_like_safetensors(folder, start, demo_image, tmp_path, monkeypatch):
    expected = answers(start("--model", str(GOLDEN)), demo_image)
    shutil.copy(PICKLES / "original.pth", folder)
    assert_same(answers(start("--model", str(folder / "original.pth")), demo_image), expected)

    (folder / "original.pth").unlink()
    shutil.copy(PICKLES / "pytorch_model.bin", folder)
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    hub = HubServer({MODEL: folder})
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    try:
        assert_same(answers(start("--model", MODEL), demo_image), expected)
    finally:
        hub.stop()


def test_converted_model_answers_like_its_source(folder, start, demo_image, tmp_path):
    shutil.copy(PICKLES / "original.pth", folder)
    converted = tmp_path / "converted"
    command = ["convert", "--model", folder / "original.pth", "--output", converted]
    completed = run(*command, "--dtype", "f32")
    assert completed.returncode == 0, completed.stderr
    files = {path.name: path.stat().st_size for path in converted.iterdir()}
    assert sorted(files) == sorted([*OTHER_FILES, "model.safetensors"])
    printed = [f"{converted / name} ({size} bytes)" for name, size in sorted(files.items())]
    assert completed.stdout.splitlines() == printed
    assert_same(
        answers(start("--model", str(converted)), demo_image),
        answers(start("--model", str(GOLDEN)), demo_image),
    )

    again = run(*command)
    assert again.returncode == 1
    assert (
        again.stderr
        == f'blip-serve: cannot convert model "{folder / "original.pth"}": output {converted} exists: use --force to replace it\n'
    )
    assert run(*command, "--force").returncode == 0
    assert (converted / "model.safetensors").stat().st_size < files["model.safetensors"]


def test_weights_without_configuration_print_missing_files(tmp_path):
    file = tmp_path / "model_base_vqa_capfilt_large.pth"
    shutil.copy(PICKLES / "original.pth", file)
    for command in (["serve", "--device", "cpu"], ["convert", "--output", tmp_path / "out"]):
        completed = run(*command, "--model", file)
        assert (completed.returncode, completed.stdout) == (1, "")
        assert completed.stderr.count("\n") == 1, completed.stderr
        assert (
            f"model file {file} is incomplete: missing config.json, "
            "preprocessor_config.json or processor_config.json, tokenizer.json or vocab.txt in its folder"
            in completed.stderr
        )
    assert not (tmp_path / "out").exists()
