"""Outputs of several machines, put together by merge."""

import contextlib
import json
import os
import signal
import subprocess

import pytest
from conftest import program
from test_shards import captioned, contents, results, run, scene, shards

# These fixtures make tar shards and their captions.
__all__ = ["captioned", "shards"]


def merge(*arguments):
    return subprocess.run(
        [program(), "merge", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module", params=["jsonl", "csv"])
def records(request, tmp_path_factory):
    """A folder with an input, its output, and the outputs of three parts."""
    folder = tmp_path_factory.mktemp("records")
    for number in range(4):
        (folder / f"{number}.png").write_bytes(scene(number))
    lines = [{"id": at, "image": f"{at % 4}.png", "prompt": f"a {at}"} for at in range(11)]
    lines[5]["image"] = "nowhere.png"
    source = folder / f"in.{request.param}"
    if request.param == "csv":
        source.write_text("".join(",".join(map(str, row)) + "\n" for row in [lines[0], *map(dict.values, lines)]))
    else:
        source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for part in range(3):
        completed = run("caption", source, folder / f"{part}.{request.param}", "--shard", f"{part}/3")
        assert completed.returncode == (part == 1), completed.stderr
    return folder, request.param


def test_parts_are_the_output_of_the_input(records):
    folder, form = records
    parts = [folder / f"{part}.{form}" for part in range(3)]
    output = folder / f"merged.{form}"
    completed = merge(*parts, "-o", output, "-i", folder / f"in.{form}")
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == "blip-serve: 11 lines merged, 1 with an error\n"
    texts = [part.read_text() for part in parts]
    if form == "csv":
        texts[1:] = [text.split("\n", 1)[1] for text in texts[1:]]
    assert output.read_text() == "".join(texts)
    refused = merge(*parts, "-o", output)
    assert refused.returncode == 1 and "already exists: use --force" in refused.stderr
    assert merge(*parts, "-o", output, "--force").returncode == 0
    replaced = merge(*parts, "-o", folder / f"in.{form}", "-i", folder / f"in.{form}", "--force")
    assert replaced.returncode == 1 and "the output is the input " in replaced.stderr
    # The output is one that a run can continue.
    again = run("caption", folder / f"in.{form}", output, "--resume")
    assert again.returncode == 0 and again.stderr.startswith("captioning: 0 lines"), again.stderr


@pytest.mark.parametrize(
    "parts, message",
    [
        ([0, 1], "the parts have 7 records, and "),
        ([0, 2, 1], ", line "),
        ([0, 1, 2, 2], " has only 11 records"),
        ([0, 1, 7], "cannot read "),
        ([0, 1, "torn"], "the last line is incomplete: use --resume to complete this part"),
    ],
)
def test_parts_that_are_not_the_whole_are_errors(records, parts, message):
    folder, form = records
    whole = (folder / f"2.{form}").read_bytes()
    (folder / f"torn.{form}").write_bytes(whole[:-20])
    output = folder / f"none.{form}"
    completed = merge(*[folder / f"{part}.{form}" for part in parts], "-o", output, "-i", folder / f"in.{form}")
    assert completed.returncode == 1 and message in completed.stderr
    assert not output.exists() and not list(folder.glob(".blip-serve-*"))


def test_folders_of_shards_are_merged_if_they_are_complete(shards, captioned, tmp_path):
    source = shards / "s-{000..002}.tar"
    folders = [tmp_path / "0", tmp_path / "1"]
    assert run("caption", source, folders[0], "--shard", "0/2").returncode == 0
    missing = merge(folders[0], "-o", tmp_path / "out", "-i", source)
    assert missing.returncode == 1 and "no part has these shards: s-001.tar" in missing.stderr
    assert not (tmp_path / "out").exists()
    assert run("caption", source, folders[1], "--shard", "1/2").returncode == 0
    # The part of a machine without shards.
    folders.append(tmp_path / "2")
    folders[2].mkdir()
    # The second time, the shards are in the output already.
    for options in ([], ["--force"]):
        completed = merge(*folders, "-o", tmp_path / "out", "-i", source, *options)
        assert completed.returncode == 0, completed.stderr
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(contents(captioned))
    assert contents(tmp_path / "out").keys() == contents(captioned).keys()
    captions = {key: result["caption"] for key, result in results(tmp_path / "out").items()}
    assert captions == {key: result["caption"] for key, result in results(captioned).items()}
    # A run into the output does not change the parts.
    parts = [contents(folder) for folder in folders]
    again = run("ask", source, tmp_path / "out", "-q", "what color is the circle?", "--force")
    assert again.returncode == 0, again.stderr
    assert [contents(folder) for folder in folders] == parts
    replaced = merge(*folders, "-o", shards, "-i", shards, "--force")
    assert replaced.returncode == 1 and "the output folder has the input " in replaced.stderr
    mixed = merge(folders[0], shards / "s-000.tar", "-o", tmp_path / "mixed")
    assert mixed.returncode == 1 and "some parts are folders" in mixed.stderr


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_merge_leaves_no_file(tmp_path, number, code):
    part = tmp_path / "0.jsonl"
    os.mkfifo(part)
    arguments = [program(), "merge", str(part), "-o", str(tmp_path / "out.jsonl")]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        # The part is open when the merge has its temporary file.
        with contextlib.suppress(BrokenPipeError), part.open("w") as lines:
            assert list(tmp_path.glob(".blip-serve-merge-*"))
            process.send_signal(number)
            while True:
                lines.write("{}\n")
                lines.flush()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (code, "blip-serve: stopped: nothing is written\n")
    assert list(tmp_path.iterdir()) == [part]
