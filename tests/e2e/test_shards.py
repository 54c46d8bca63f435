"""Data sets in tar shards, as WebDataset writes and reads them."""

import io
import json
import os
import re
import resource
import signal
import subprocess
import tarfile
from itertools import groupby

import pytest
import webdataset
from conftest import program
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow")
SHARDS, SAMPLES = 3, 40
QUESTION = "what color is the circle?"


def scene(number):
    """Returns the PNG file of a scene that differs for each number."""
    image = Image.new("RGB", (96, 96), "white")
    left, top = 4 + number % 40, 4 + number // 40 % 40
    ImageDraw.Draw(image).ellipse((left, top, left + 40, top + 40), fill=COLOURS[number % 4])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sample(number):
    """Returns a sample in the form of webdataset's TarWriter."""
    return {
        "__key__": f"{number:06}",
        "png": scene(number),
        "txt": f"a {COLOURS[number % 4]} circle",
        "json": {"number": number, "caption": "of the web"},
        "cls": number % 4,
    }


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder with shards that webdataset has written."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        with webdataset.TarWriter(str(folder / f"s-{shard:03}.tar"), mtime=0) as writer:
            for number in range(shard * SAMPLES, (shard + 1) * SAMPLES):
                writer.write(sample(number))
    return folder


def written(path):
    """Returns what changes when a file is written, not when it is read."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def command(task, source, output, *options):
    arguments = [task, "--local", "--device", "cpu", "-i", source, "-o", output, *options]
    return [program(), *map(str, arguments)]


def run(*arguments, **options):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, check=False, **options
    )


@pytest.fixture(scope="module")
def captioned(shards, tmp_path_factory):
    """The captions of an unbroken run."""
    output = tmp_path_factory.mktemp("captioned") / "new"
    completed = run("caption", shards, output)
    assert completed.returncode == 0, completed.stderr
    *_, summary, shards_line = completed.stderr.splitlines()
    assert shards_line == "blip-serve: 3 shards complete, 0 were already, 0 cannot be read"
    # A run of the demo model on the CPU waits for the engine or for decoding, at least in part.
    assert re.fullmatch(r"captioning: 120 lines, 0 failed, [\d.]+ per second, bound by: [a-z\d %,]+", summary)
    assert re.search(r"(engine|decoding) [1-9]\d* %", summary)
    return output


def contents(folder):
    """Returns the members of each shard in a folder that has nothing but shards."""
    return {path.name: members(path) for path in folder.iterdir()}


def members(path):
    with tarfile.open(path) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]


def results(folder, name="blip"):
    """Returns the result of each sample, as webdataset reads it."""
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = webdataset.WebDataset(urls, shardshuffle=False)
    return {sample["__key__"]: json.loads(sample[f"{name}.json"]) for sample in samples}


def test_output_has_all_members_and_a_result_for_each_sample(shards, captioned):
    names = [f"s-{shard:03}.tar" for shard in range(SHARDS)]
    assert sorted(path.name for path in captioned.iterdir()) == names
    for name in names:
        before, after = members(shards / name), members(captioned / name)
        assert [member for member in after if not member[0].endswith(".blip.json")] == before
        keys = [key for key, _ in groupby(name.split(".", 1)[0] for name, _ in after)]
        assert len(keys) == SAMPLES
        last_of_each = after[4::5]
        assert [name for name, _ in last_of_each] == [f"{key}.blip.json" for key in keys]
    captions = results(captioned)
    assert len(captions) == SHARDS * SAMPLES
    assert all(set(result) >= {"caption", "score", "token_ids"} for result in captions.values())


def test_captions_equal_those_of_single_images(captioned, tmp_path):
    for number in range(30, 60):
        (tmp_path / f"{number:06}.png").write_bytes(scene(number))
    single = [program(), "caption", "--local", "--device", "cpu", "--json", str(tmp_path)]
    completed = subprocess.run(single, capture_output=True, text=True, timeout=120, check=True)
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    expected = {line["image"].rsplit("/", 1)[1].removesuffix(".png"): line["caption"] for line in lines}
    captions = results(captioned)
    assert {key: captions[key]["caption"] for key in expected} == expected


@pytest.fixture(scope="module")
def answered(shards, tmp_path_factory):
    """The answers of an unbroken run. On the CPU they do not depend on the batch, to the bit."""
    output = tmp_path_factory.mktemp("answered") / "new"
    completed = run("ask", shards, output, "-q", QUESTION)
    assert completed.returncode == 0, completed.stderr
    return output


def test_run_killed_at_three_places_resumes_to_equal_bytes(shards, answered, tmp_path):
    output = tmp_path / "out"
    options = ("-q", QUESTION, "--resume")
    for complete in range(SHARDS):
        # The shard that is being written, after the complete ones.
        partial = output / f".s-{complete:03}.tar.partial"
        with subprocess.Popen(
            command("ask", shards, output, *options), stderr=subprocess.PIPE, text=True
        ) as process:
            while not (partial.exists() or (output / f"s-{complete:03}.tar").exists()):
                assert process.poll() is None, process.stderr.read()
            process.send_signal(signal.SIGKILL)
    completed = run("ask", shards, output, *options)
    assert completed.returncode == 0, completed.stderr
    assert {path.name: path.read_bytes() for path in output.iterdir()} == {
        path.name: path.read_bytes() for path in answered.iterdir()
    }
    refused = run("ask", shards, output, "-q", QUESTION)
    assert refused.returncode == 1
    assert "s-000.tar already exists: use --resume" in refused.stderr
    again = run("ask", shards, output, *options)
    assert again.stderr.splitlines()[-1] == (
        "blip-serve: 0 shards complete, 3 were already, 0 cannot be read"
    )


def test_parts_are_together_the_whole(shards, captioned, tmp_path):
    source = shards / "s-{000..002}.tar"
    for part, count in [("0/2", 2), ("1/2", 3)]:
        completed = run("caption", source, tmp_path / "out", "--shard", part)
        assert completed.returncode == 0, completed.stderr
        assert len(contents(tmp_path / "out")) == count
    assert contents(tmp_path / "out") == contents(captioned)
    invalid = run("caption", source, tmp_path / "out", "--shard", "2/2")
    assert invalid.returncode == 2 and "the first is 0, the last N - 1" in invalid.stderr


def test_bad_shards_and_samples_are_named_and_the_rest_is_done(shards, captioned, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    whole = (shards / "s-000.tar").read_bytes()
    (source / "s-000.tar").write_bytes(whole)
    (source / "s-001.tar").write_bytes((shards / "s-001.tar").read_bytes()[: len(whole) // 2])
    (source / "s-002.tar").write_bytes(b"no archive" * 1000)
    with webdataset.TarWriter(str(source / "s-004.tar"), mtime=0) as writer:
        writer.write(sample(0))
        writer.write({"__key__": "broken", "png": b"no image", "txt": "a"})
        writer.write({"__key__": "text", "txt": "only"})
        writer.write({"__key__": "odd", "png": scene(1), "json": b"{"})
        writer.write(sample(3))
    os.mkfifo(source / "s-005.tar")
    completed = run("caption", source / "s-{000..005}.tar", output)
    assert completed.returncode == 1
    lines = completed.stderr.splitlines()
    (torn,) = [line for line in lines if "s-001.tar" in line]
    assert "the tar file is broken " in torn and "sample 0000" in torn
    (no_archive,) = [line for line in lines if "s-002.tar" in line]
    assert "the tar file is broken before the first sample" in no_archive
    (missing,) = [line for line in lines if "s-003.tar" in line]
    assert "No such file or directory" in missing
    (pipe,) = [line for line in lines if "s-005.tar" in line]
    assert "not a regular file" in pipe
    assert lines[-1] == "blip-serve: 2 shards complete, 0 were already, 4 cannot be read"
    assert sorted(contents(output)) == ["s-000.tar", "s-004.tar"]
    name = "s-000.tar"
    assert contents(output)[name] == contents(captioned)[name]
    found = results(output)
    assert found["broken"]["error"]["reason"] == "IMAGE_FORMAT_UNKNOWN"
    assert found["text"]["error"]["message"] == "image is missing"
    assert found["odd"]["error"]["message"].startswith("member .json is invalid: ")
    assert all("error" not in found[key] for key in ("000000", "000003"))


def test_retry_processes_failed_samples_only(shards, captioned, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for shard, late in enumerate([5, None]):
        with webdataset.TarWriter(str(source / f"s-{shard:03}.tar"), mtime=0) as writer:
            for number in range(shard * SAMPLES, shard * SAMPLES + 10):
                writer.write({**sample(number), **({"png": b"late"} if number == late else {})})
    assert run("caption", source, output).returncode == 1
    before = contents(output)
    unchanged = written(output / "s-001.tar")
    again = run("caption", source, output, "--retry-failed")
    assert again.returncode == 1 and "captioning: 1 lines, 1 failed" in again.stderr, again.stderr
    assert contents(output) == before
    with webdataset.TarWriter(str(source / "s-000.tar"), mtime=0) as writer:
        for number in range(10):
            writer.write(sample(number))
    completed = run("caption", source, output, "--retry-failed")
    assert completed.returncode == 0, completed.stderr
    assert "captioning: 1 lines, 0 failed" in completed.stderr
    assert completed.stderr.splitlines()[-1] == (
        "blip-serve: 1 shards complete, 1 were already, 0 cannot be read"
    )
    after = contents(output)
    changed = {
        name
        for shard, entries in after.items()
        for (name, content), entry in zip(entries, before[shard], strict=True)
        if (name, content) != entry
    }
    assert changed == {"000005.png", "000005.blip.json"}
    assert after["s-000.tar"] == contents(captioned)["s-000.tar"][: len(after["s-000.tar"])]
    assert written(output / "s-001.tar") == unchanged
    # A shard without output is processed, too.
    (output / "s-001.tar").unlink()
    completed = run("caption", source, output, "--retry-failed")
    assert completed.returncode == 0 and "captioning: 10 lines, 0 failed" in completed.stderr
    assert contents(output) == after


def test_full_disk_ends_the_run_without_half_a_shard(shards, tmp_path):
    def limit_files():
        # Writing beyond the limit fails, as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    output = tmp_path / "out"
    # Decode workers share memory with the program, which the limit would count.
    environment = {**os.environ, "BLIP_SERVE__DECODE__ISOLATION": "thread"}
    completed = run("caption", shards, output, preexec_fn=limit_files, env=environment)
    assert completed.returncode == 1
    assert "cannot write the output" in completed.stderr and "s-000.tar" in completed.stderr
    assert list(output.iterdir()) == []


def test_match_uses_the_text_of_each_sample(shards, captioned, tmp_path):
    output = tmp_path / "out"
    completed = run("match", captioned, output, "--result-name", "match")
    assert completed.returncode == 0, completed.stderr
    scores = results(output, "match")
    assert len(scores) == SHARDS * SAMPLES
    assert all(0 <= score["probability"] <= 1 for score in scores.values())
    # The results of the first run are members of the second.
    assert results(output) == results(captioned)


def test_embed_uses_the_image_of_a_sample_with_a_text(shards, tmp_path):
    completed = run("embed", shards / "s-000.tar", tmp_path / "out")
    assert completed.returncode == 0, completed.stderr
    (tmp_path / "a.png").write_bytes(scene(0))
    arguments = [program(), "embed", "--local", "--device", "cpu", str(tmp_path / "a.png")]
    line = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout
    expected = json.loads(line)["embedding"]
    assert results(tmp_path / "out")["000000"]["embedding"] == pytest.approx(expected, abs=1e-4)


def write_members(path, entries):
    """Writes a tar file of TarInfo objects with their content."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for info, content in entries:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def entry(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def test_names_links_and_folders_are_copied(tmp_path):
    # The name of a USTAR header with more than 100 bytes has two parts.
    folder = "f" * 90
    entries = [
        entry(folder, type=tarfile.DIRTYPE),
        entry(f"{folder}/long-name-000.png", scene(0)),
        entry(f"{folder}/0.png", scene(1)),
        entry("link.png", type=tarfile.SYMTYPE, linkname=f"{folder}/0.png"),
    ]
    source = write_members(tmp_path / "a.tar", entries)
    completed = run("caption", source, tmp_path / "out")
    assert completed.returncode == 0, completed.stderr
    with tarfile.open(tmp_path / "out/a.tar") as archive:
        found = [(info.name, info.type, info.linkname) for info in archive]
    results = [f"{folder}/long-name-000.blip.json", f"{folder}/0.blip.json"]
    assert [each for each in found if not each[0].endswith(".json")] == [
        (info.name, info.type, info.linkname) for info, _ in entries
    ]
    assert [name for name, _, _ in found if name.endswith(".json")] == results


@pytest.mark.parametrize(
    "name, message",
    [("/etc/x.png", "is absolute"), ("a/../../x.png", "has the part .."), (b"\xff.png", "is not valid UTF-8")],
)
def test_names_that_no_data_set_has_are_errors(tmp_path, name, message):
    name = name if isinstance(name, str) else name.decode(errors="surrogateescape")
    source = write_members(tmp_path / "a.tar", [entry("0.png", scene(0)), entry(name, scene(1))])
    completed = run("caption", source, tmp_path / "out")
    assert completed.returncode == 1
    assert "a.tar: the tar file is broken after the beginning of sample 0: " in completed.stderr
    assert message in completed.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_file_that_was_not_downloaded_completely_is_an_error(shards, tmp_path):
    whole = bytearray((shards / "s-000.tar").read_bytes())
    cut = len(whole) // 2 // 512 * 512
    # Some programs reserve the size of a file before its content arrives, in any order.
    hole = bytearray(whole)
    hole[cut : cut + 4096] = bytes(4096)
    for name, content in [("zeros.tar", whole[:cut] + bytes(len(whole) - cut)), ("hole.tar", hole)]:
        (tmp_path / name).write_bytes(content)
        completed = run("caption", tmp_path / name, tmp_path / "out")
        assert "the tar file is broken" in completed.stderr, (name, completed)
        assert completed.returncode == 1 and list((tmp_path / "out").iterdir()) == []


def test_question_of_the_command_line_is_that_of_all_samples(shards, answered, tmp_path):
    answers = results(answered)
    assert len(answers) == SHARDS * SAMPLES and all(result["answer"] for result in answers.values())
    two = run("ask", shards, tmp_path / "two", "-q", QUESTION, "-q", "what?")
    assert two.returncode == 1 and "2 texts with --input: at most one allowed" in two.stderr


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("s-{0..2.tar", [], "} is missing"),
        ("none.jsonl", ["--result-name", "other"], "--result-name is for shards"),
        ("s-000.tar", ["--result-name", "a/b"], "must consist of small letters"),
        ("s-000.tar", ["--format", "csv"], "--format is for record files: the input is shards"),
        ("s-000.tar", ["--json"], "--json is for standard output: the results of shards are in files"),
    ],
)
def test_wrong_options_are_errors_that_say_so(shards, tmp_path, source, options, message):
    completed = run("caption", shards / source, tmp_path / "out", *options)
    assert completed.returncode in (1, 2) and message in completed.stderr


def test_shards_need_an_output_folder(shards):
    arguments = [program(), "caption", "--local", "-i", str(shards)]
    completed = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 1 and "--output FOLDER" in completed.stderr
    output_is_input = run("caption", shards, shards, "--force")
    assert output_is_input.returncode == 1
    assert "the output folder has the input" in output_is_input.stderr


def caption_folder(source, output, *options):
    arguments = [program(), "caption", "--local", "--device", "cpu", source, "-o", output, *options]
    return subprocess.run(
        list(map(str, arguments)), capture_output=True, text=True, timeout=120, check=False
    )


def test_folder_gets_a_text_file_beside_each_image(captioned, tmp_path):
    (tmp_path / "more").mkdir()
    for number, name in enumerate(["a.png", "more/b.png", "more/c.PNG"]):
        (tmp_path / name).write_bytes(scene(number))
    (tmp_path / "broken.png").write_bytes(b"no image")
    os.mkfifo(tmp_path / "pipe.png")
    completed = caption_folder(tmp_path, tmp_path)
    assert completed.returncode == 1
    assert [line for line in completed.stderr.splitlines() if "not a regular file" in line]
    (tmp_path / "pipe.png").unlink()
    assert [line for line in completed.stderr.splitlines() if "IMAGE_FORMAT_UNKNOWN" in line]
    texts = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.txt")}
    captions = results(captioned)
    expected = ("a.txt", "more/b.txt", "more/c.txt")
    assert texts == {name: captions[f"{at:06}"]["caption"] + "\n" for at, name in enumerate(expected)}
    refused = caption_folder(tmp_path, tmp_path)
    assert refused.returncode == 1 and "already exists: use --resume" in refused.stderr
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "broken.png").write_bytes(scene(3))
    resumed = caption_folder(tmp_path, tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert (tmp_path / "broken.txt").read_text() == captions["000003"]["caption"] + "\n"
    other = caption_folder(tmp_path, f"{tmp_path}/texts/")
    assert other.returncode == 0 and (tmp_path / "texts/more/b.txt").exists()


def test_folder_as_output_is_for_one_caption_of_each_image(tmp_path):
    (tmp_path / "a.png").write_bytes(scene(0))
    for options in (["--prompt", "a", "--prompt", "the"],):
        completed = caption_folder(tmp_path, tmp_path, *options)
        assert completed.returncode == 1 and "for one caption of each image" in completed.stderr


def test_parts_of_a_record_file_are_together_the_whole(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(scene(0))
    lines = [json.dumps({"id": at, "image": str(image), "prompt": f"a {at}"}) for at in range(11)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    for part in range(3):
        completed = run("caption", tmp_path / "in.jsonl", tmp_path / f"{part}.jsonl", "--shard", f"{part}/3")
        assert completed.returncode == 0, completed.stderr
    text = "".join((tmp_path / f"{part}.jsonl").read_text() for part in range(3))
    assert [json.loads(line)["id"] for line in text.splitlines()] == list(range(11))
    again = run("caption", tmp_path / "in.jsonl", tmp_path / "2.jsonl", "--shard", "2/3", "--resume")
    assert again.returncode == 0 and again.stderr.startswith("captioning: 0 lines"), again.stderr
    piped = run("caption", "-", tmp_path / "out.jsonl", "--shard", "0/3", stdin=subprocess.DEVNULL)
    assert piped.returncode == 1 and "--shard needs --input FILE" in piped.stderr
