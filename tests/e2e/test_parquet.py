"""Data sets in Parquet files, as the library datasets writes and reads them."""

import io
import json
import os
import resource
import signal
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import program
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PillowImage
from test_shards import COLOURS, captioned, command, results, run, scene, shards, written

# These fixtures make the tar shards with the same scenes.
__all__ = ["captioned", "shards"]

FILES, ROWS = 3, 40
ROW_GROUP = 16


def row(number):
    return {
        "image": {"bytes": scene(number), "path": f"{number:06}.png"},
        "text": f"a {COLOURS[number % 4]} circle",
        "label": number % 4,
        "sizes": [number, 40],
        "caption": "of the web",
    }


FEATURES = Features(
    {
        "image": Image(),
        "text": Value("string"),
        "label": ClassLabel(names=list(COLOURS)),
        "sizes": List(Value("int16")),
        "caption": Value("large_string"),
    }
)


def name(file):
    return f"train-{file:05}-of-{FILES:05}.parquet"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the scenes of the tar shards, as datasets writes them."""
    folder = tmp_path_factory.mktemp("parquet")
    for file in range(FILES):
        rows = [row(number) for number in range(file * ROWS, (file + 1) * ROWS)]
        Dataset.from_list(rows, features=FEATURES).to_parquet(folder / name(file), batch_size=ROW_GROUP)
    return folder


@pytest.fixture(scope="module")
def output(files, tmp_path_factory):
    """The captions of an unbroken run."""
    folder = tmp_path_factory.mktemp("captioned") / "new"
    completed = run("caption", files / "train-{00000..00002}-of-00003.parquet", folder)
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr.splitlines()[-1] == (
        "blip-serve: 3 shards complete, 0 were already, 0 cannot be read"
    )
    return folder


def read(folder, cache):
    paths = sorted(map(str, folder.glob("*.parquet")))
    return Dataset.from_parquet(paths, cache_dir=str(cache))


def values(path, column="blip"):
    return pq.read_table(path).column(column).to_pylist()


def assert_equal(actual, expected):
    """Compares all rows of two folders."""
    assert sorted(path.name for path in actual.iterdir()) == sorted(path.name for path in expected.iterdir())
    for path in expected.iterdir():
        assert pq.read_table(actual / path.name).equals(pq.read_table(path), check_metadata=True)


def test_captions_equal_those_of_tar_shards(output, captioned, tmp_path):
    rows = read(output, tmp_path)
    expected = results(captioned)
    assert [found["caption"] for found in rows["blip"]] == [
        expected[f"{number:06}"]["caption"] for number in range(FILES * ROWS)
    ]
    assert [found["score"] for found in rows["blip"]] == pytest.approx(
        [expected[f"{number:06}"]["score"] for number in range(FILES * ROWS)], abs=1e-4
    )
    assert all(found["error"] is None for found in rows["blip"])


def test_datasets_reads_columns_and_their_features(files, output, tmp_path):
    rows, source = read(output, tmp_path / "out"), read(files, tmp_path / "in")
    features = dict(rows.features)
    result = features.pop("blip")
    assert features == dict(source.features) == dict(FEATURES)
    assert {field: result[field] for field in ("caption", "score", "margin")} == {
        "caption": Value("string"),
        "score": Value("float32"),
        "margin": Value("float32"),
    }
    assert rows.remove_columns("blip").to_list() == source.to_list()
    assert rows[3]["image"].size == (96, 96)
    flat = rows.flatten()
    assert flat["blip.caption"][0] == rows[0]["blip"]["caption"]


def test_columns_schema_and_row_groups_stay(files, output):
    for file in range(FILES):
        before, after = pq.ParquetFile(files / name(file)), pq.ParquetFile(output / name(file))
        assert after.schema_arrow.names == [*before.schema_arrow.names, "blip"]
        copied = after.read().drop(["blip"])
        assert copied.equals(before.read(), check_metadata=True)
        sizes = [
            [each.metadata.row_group(at).num_rows for at in range(each.metadata.num_row_groups)]
            for each in (before, after)
        ]
        assert sizes == [[16, 16, 8], [16, 16, 8]]


def odd_table(count):
    """Returns a table with types that no record has, and images as their content alone."""
    numbers = range(count)
    return pa.table(
        {
            "img": pa.array([scene(number) for number in numbers], pa.large_binary()),
            "kind": pa.array([COLOURS[number % 4] for number in numbers]).dictionary_encode(),
            "time": pa.array(numbers, pa.timestamp("ms", tz="Europe/Berlin")),
            "price": pa.array([f"{number}.25" for number in numbers]).cast(pa.decimal128(9, 2)),
            "map": pa.array([[("a", number)] for number in numbers], pa.map_(pa.string(), pa.int8())),
            "nested": pa.array([{"x": [{"y": number}] * (number % 3)} for number in numbers]),
            "nothing": pa.nulls(count),
            "half": pa.array(list(map(float, numbers)), pa.float16()),
        }
    )


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "lz4"])
def test_columns_of_any_type_are_copied(tmp_path, codec):
    table = odd_table(10)
    pq.write_table(table, tmp_path / "a.parquet", compression=codec, row_group_size=4)
    completed = run("caption", tmp_path / "a.parquet", tmp_path / "out")
    assert completed.returncode == 0, completed.stderr
    copied = pq.read_table(tmp_path / "out/a.parquet")
    assert copied.drop(["blip"]).equals(table)
    assert copied.drop(["blip"]).schema == table.schema
    assert all(found["caption"] for found in copied["blip"].to_pylist())


def test_images_by_path_are_relative_to_their_file(tmp_path, captioned):
    expected = results(captioned)
    (tmp_path / "in/images").mkdir(parents=True)
    for number in range(4):
        (tmp_path / f"in/images/{number}.png").write_bytes(scene(number))
    paths = [f"images/{number}.png" for number in range(3)] + [str(tmp_path / "in/images/3.png")]
    pq.write_table(pa.table({"file": paths}), tmp_path / "in/text.parquet")
    structs = pa.array([{"path": path, "bytes": None} for path in paths], FEATURES["image"].pa_type)
    pq.write_table(pa.table({"file": structs}), tmp_path / "in/struct.parquet")
    completed = run("caption", tmp_path / "in", tmp_path / "out", "--image-column", "file")
    assert completed.returncode == 0, completed.stderr
    for file in ("text", "struct"):
        captions = [found["caption"] for found in values(tmp_path / f"out/{file}.parquet")]
        assert captions == [expected[f"{number:06}"]["caption"] for number in range(4)]


def test_bad_files_and_images_are_named_and_the_rest_is_done(files, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    whole = (files / name(0)).read_bytes()
    (source / "a0.parquet").write_bytes(whole[: len(whole) // 2])
    (source / "a1.parquet").write_bytes(b"no parquet" * 1000)
    pq.write_table(pa.table({"photo": ["a.png"]}), source / "a3.parquet")
    images = [scene(0), b"no image", None, scene(3)]
    pq.write_table(pa.table({"image": images, "number": range(4)}), source / "a4.parquet")
    torn = bytearray(whole)
    column = pq.ParquetFile(files / name(0)).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    torn[start : start + 500] = b"\xff" * 500
    (source / "a5.parquet").write_bytes(torn)
    completed = run("caption", source / "a{0..6}.parquet", output)
    assert completed.returncode == 1
    lines = completed.stderr.splitlines()
    for file, message in [
        ("a0", "the Parquet file is broken: "),
        ("a1", "the Parquet file is broken: "),
        ("a2", "No such file or directory"),
        ("a3", "no column of this name: image, img, jpg. The columns are photo"),
        ("a5", "the Parquet file is broken after row 16: "),
        ("a6", "No such file or directory"),
    ]:
        (line,) = [line for line in lines if f"{file}.parquet" in line]
        assert message in line
    assert lines[-1] == "blip-serve: 1 shards complete, 0 were already, 6 cannot be read"
    assert [path.name for path in output.iterdir()] == ["a4.parquet"]
    found = values(output / "a4.parquet")
    assert found[1]["error"]["reason"] == "IMAGE_FORMAT_UNKNOWN"
    assert found[2]["error"]["message"] == "image is missing"
    assert [each["caption"] is not None for each in found] == [True, False, False, True]
    assert values(output / "a4.parquet", "number") == [0, 1, 2, 3]


def test_killed_run_resumes_to_an_equal_output(files, output, tmp_path):
    folder = tmp_path / "out"
    with subprocess.Popen(command("caption", files, folder, "--resume"), stderr=subprocess.PIPE) as process:
        while not (folder / name(0)).exists():
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)
    refused = run("caption", files, folder)
    assert refused.returncode == 1 and f"{name(0)} already exists: use --resume" in refused.stderr
    completed = run("caption", files, folder, "--resume")
    assert completed.returncode == 0, completed.stderr
    assert_equal(folder, output)


def test_retry_processes_failed_rows_only(tmp_path, captioned):
    expected = results(captioned)
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(8):
        (source / f"{number}.png").write_bytes(scene(number))
    (source / "5.png").unlink()
    table = pa.table({"image": [f"{number}.png" for number in range(8)], "number": range(8)})
    pq.write_table(table, source / "a.parquet", row_group_size=3)
    pq.write_table(table.slice(0, 4), source / "b.parquet")
    assert run("caption", source, output).returncode == 1
    before, unchanged = values(output / "a.parquet"), written(output / "b.parquet")
    assert [at for at, found in enumerate(before) if found["error"]] == [5]
    (source / "5.png").write_bytes(scene(5))
    completed = run("caption", source, output, "--retry-failed")
    assert completed.returncode == 0 and "captioning: 1 lines, 0 failed" in completed.stderr, completed
    after = values(output / "a.parquet")
    assert [at for at in range(8) if before[at] != after[at]] == [5]
    assert [found["caption"] for found in after] == [
        expected[f"{number:06}"]["caption"] for number in range(8)
    ]
    assert pq.read_table(output / "a.parquet").drop(["blip"]).equals(table)
    assert written(output / "b.parquet") == unchanged
    other = run("match", source, output, "--retry-failed", "--text-column", "image")
    assert other.returncode == 1
    message = "column blip has the fields caption, score, margin, error: expected probability, cosine, error"
    assert message in other.stderr


def test_parts_are_together_the_whole(files, output, tmp_path):
    for part in ("0/2", "1/2"):
        completed = run("caption", files, tmp_path / "out", "--shard", part)
        assert completed.returncode == 0, completed.stderr
    assert_equal(tmp_path / "out", output)


def test_full_disk_ends_the_run_without_half_a_file(files, tmp_path):
    def limit_files():
        # Writing beyond the limit fails, as on a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    # Decode workers share memory with the program, which the limit would count.
    environment = {**os.environ, "BLIP_SERVE__DECODE__ISOLATION": "thread"}
    completed = run("caption", files, tmp_path / "out", preexec_fn=limit_files, env=environment)
    assert completed.returncode == 1
    assert "cannot write the output" in completed.stderr and name(0) in completed.stderr
    assert "broken" not in completed.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_match_reads_the_text_column_and_adds_its_results(output, tmp_path):
    for column, folder in (("text", "one"), ("caption", "other")):
        options = [] if column == "text" else ["--text-column", column]
        completed = run("match", output, tmp_path / folder, "--result-name", "match", *options)
        assert completed.returncode == 0, completed.stderr
    rows = [row for file in range(FILES) for row in values(tmp_path / "one" / name(file), "match")]
    assert len(rows) == FILES * ROWS and all(0 <= row["probability"] <= 1 for row in rows)
    other = [row for file in range(FILES) for row in values(tmp_path / "other" / name(file), "match")]
    assert [row["probability"] for row in other] != [row["probability"] for row in rows]
    # The results of the first run are a column of the second.
    assert values(tmp_path / "one" / name(0)) == values(output / name(0))
    replaced = run("match", tmp_path / "one", tmp_path / "bad", "--result-name", "label")
    assert replaced.returncode == 1 and "the column label is no result" in replaced.stderr


def test_questions_and_embeddings_have_columns(files, tmp_path):
    questions = pq.read_table(files / name(0)).slice(0, 4)
    questions = questions.append_column("question", pa.array(["what color is the circle?", None] * 2))
    pq.write_table(questions, tmp_path / "a.parquet")
    completed = run("ask", tmp_path / "a.parquet", tmp_path / "out", "-q", "is there a circle?")
    assert completed.returncode == 0, completed.stderr
    answers = [found["answer"] for found in values(tmp_path / "out/a.parquet")]
    assert answers == ["red", "yes", "blue", "yes"]
    completed = run("embed", tmp_path / "a.parquet", tmp_path / "embedded")
    assert completed.returncode == 0, completed.stderr
    embeddings = [found["embedding"] for found in values(tmp_path / "embedded/a.parquet")]
    assert len(embeddings) == 4
    for number, embedding in enumerate(embeddings):
        (tmp_path / "a.png").write_bytes(scene(number))
        arguments = [program(), "embed", "--local", "--device", "cpu", str(tmp_path / "a.png")]
        line = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout
        assert embedding == pytest.approx(json.loads(line)["embedding"], abs=1e-4)


def test_images_of_two_forms_have_equal_captions(files, output, tmp_path):
    image = PillowImage.open(io.BytesIO(scene(5)))
    file = io.BytesIO()
    image.save(file, "BMP")
    pq.write_table(pa.table({"jpg": [file.getvalue()]}), tmp_path / "a.parquet")
    completed = run("caption", tmp_path / "a.parquet", tmp_path / "out")
    assert completed.returncode == 0, completed.stderr
    assert values(tmp_path / "out/a.parquet")[0]["caption"] == values(output / name(0))[5]["caption"]


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("none.jsonl", ["--image-column", "a"], "--image-column and --text-column are for Parquet files"),
        ("train-00000-of-00003.parquet", ["--image-column", "a"], "no column of this name: a. The columns"),
        ("train-00000-of-00003.parquet", ["--image-column", "label"], "column label has the type Int64"),
        ("train-00000-of-00003.parquet", ["--text-column", "sizes"], "column sizes has the type List"),
    ],
)
def test_wrong_columns_are_errors_that_say_so(files, tmp_path, source, options, message):
    completed = run("caption", files / source, tmp_path / "out", *options)
    assert completed.returncode == 1 and message in completed.stderr
