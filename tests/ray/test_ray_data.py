"""The example for Ray Data on a cluster of this machine, with two workers."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile

import pyarrow.parquet
import pytest
import ray
import ray_data
from blip_serve_client import Client
from PIL import Image, ImageDraw
from servers import ROOT, Server

COLOURS = ("red", "green", "blue", "yellow")
QUESTION = "what color is the shape?"
TIMEOUT_S = 300
POLLS_PER_S = 200


def image_file(number):
    """Returns the PNG file of an image that differs for each number."""
    image = Image.new("RGB", (64, 64), "white")
    left, top = number % 20, number // 20
    ImageDraw.Draw(image).ellipse((left, top, left + 40, top + 40), fill=COLOURS[number % 4])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pair():
    """Two servers. The last test kills the first one."""
    servers = [Server("--model", "demo,demo-caption").start() for _ in range(2)]
    yield servers
    for server in servers:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="module")
def cluster():
    """The address of a Ray cluster of this process."""
    # The names of Ray's sockets leave no room for the long names of pytest's folders.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        context = ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 << 20,
            _temp_dir=folder,
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()


def servers_option(pair):
    return ["--server", ",".join(f"localhost:{server.port}" for server in pair)]


def test_batch_keeps_its_columns_and_errors_belong_to_rows(pair, tmp_path):
    (tmp_path / "a.png").write_bytes(image_file(1))
    hugging_face = [
        {"bytes": image_file(0), "path": "0.png"},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": b"no image", "path": None},
        {"bytes": None, "path": str(tmp_path / "missing.png")},
        None,
    ]
    table = pyarrow.table({"id": range(5), "image": hugging_face, "blip_error": ["old"] * 5})
    options = {"image_column": "image", "question": QUESTION, "in_flight": 3, "api_key": None}
    actor = ray_data.BlipServe(pair[0].address, has_bytes=True, **options)
    result = actor(table)
    assert result.column_names == ["id", "image", "blip_text", "blip_score", "blip_error"]
    assert result.select(["id", "image"]) == table.select(["id", "image"])
    with Client(pair[1].address) as client:
        answers = [client.ask(image_file(number), QUESTION) for number in range(2)]
    assert result["blip_text"].to_pylist() == [answer.text for answer in answers] + [None] * 3
    # Answers on the CPU do not depend on the batch, to the bit.
    assert result["blip_score"].to_pylist() == [answer.score for answer in answers] + [None] * 3
    *none, broken, missing, empty = result["blip_error"].to_pylist()
    assert none == [None, None] and empty == "no image"
    assert "(IMAGE_FORMAT_UNKNOWN)" in broken and "(IMAGE_UNREADABLE)" in missing
    small = ray_data.BlipServe(pair[0].address, has_bytes=False, **options)
    assert small(table).column_names == ["id", "blip_text", "blip_score", "blip_error"]


def test_json_lines_are_answered(pair, cluster, tmp_path):
    rows = []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        path.write_bytes(image_file(number))
        rows.append({"id": number, "photo": str(path)})
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ("--input", tmp_path / "in.jsonl", "--input-format", "jsonl", "--image-column", "photo")
    output = ("--output", tmp_path / "out", "--output-format", "jsonl")
    options = [*servers_option(pair), *map(str, (*source, *output)), "--question", QUESTION]
    ray_data.main(options)
    lines = [line for path in (tmp_path / "out").iterdir() for line in path.read_text().splitlines()]
    found = sorted(map(json.loads, lines), key=lambda row: row["id"])
    with Client(pair[0].address) as client:
        for row in rows:
            answer = client.ask(row["photo"], QUESTION)
            row["blip_text"], row["blip_error"] = answer.text, None
            row["blip_score"] = pytest.approx(answer.score, abs=1e-14)
    assert found == rows
    with pytest.raises(ValueError, match="already exists"):
        ray_data.main(options)


def test_killed_server_loses_no_row(pair, cluster, tmp_path):
    images = {f"{number}.png": image_file(number) for number in range(300)}
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, image in images.items():
        (photos / name).write_bytes(image)
    (photos / "broken.png").write_bytes(b"no image")
    (photos / "notes.txt").write_text("no image file")
    command = [sys.executable, ROOT / "examples/python/ray_data.py", *servers_option(pair)]
    command += ["--input", photos, "--output", tmp_path / "out", "--in-flight", "4"]
    dying, other = pair
    before = [server.metric("blip_jobs_answered_total") for server in pair]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RAY_ADDRESS": cluster},
        )
    try:
        for _ in range(TIMEOUT_S * POLLS_PER_S):
            if dying.metric("blip_jobs_answered_total") >= before[0] + 20:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(1 / POLLS_PER_S)
                pytest.fail(f"the example ended with {code}: {(tmp_path / 'log').read_text()}")
        else:
            pytest.fail(f"20 answers took more than {TIMEOUT_S} s: {(tmp_path / 'log').read_text()}")
        dying.kill()
        assert process.wait(TIMEOUT_S) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    rows = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
    assert set(rows[0]) == {"path", "blip_text", "blip_score", "blip_error"}
    found = {os.path.basename(row["path"]): row for row in rows}
    assert len(found) == len(rows) == 301
    broken = found.pop("broken.png")
    assert (broken["blip_text"], broken["blip_score"]) == (None, None)
    assert "(IMAGE_FORMAT_UNKNOWN)" in broken["blip_error"]
    # Each server has answered some of the rows.
    assert other.metric("blip_jobs_answered_total") - before[1] < len(images)
    with Client(other.address) as client:
        for name, row in found.items():
            caption = client.caption(images[name])
            expected = (caption.text, pytest.approx(caption.score, abs=1e-4), None)
            assert (row["blip_text"], row["blip_score"], row["blip_error"]) == expected
