"""Data sets in object stores: an S3 server, and web servers."""

import http.server
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile
import threading
from contextlib import contextmanager, suppress

import boto3
import pyarrow.parquet as pq
import pytest
import requests
import webdataset
from conftest import program
from datasets import Dataset, Features, Image
from moto.server import ThreadedMotoServer
from test_shards import command, scene

SHARDS, SAMPLES = 3, 6
NAMES = [f"s-{shard}.tar" for shard in range(SHARDS)]
QUESTION = "what color is the circle?"
SECRET = "wJalrXUtnFEMI-secret"
# More than two parts of an upload.
LARGE_BYTES = 20 << 20


def write_tar(path, numbers, large=None):
    with webdataset.TarWriter(str(path), mtime=0) as writer:
        for number in numbers:
            sample = {"__key__": f"{number:04}", "png": scene(number), "json": {"number": number}}
            if number == large:
                sample["bin"] = random.Random(number).randbytes(LARGE_BYTES)
            writer.write(sample)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with tar shards, the first sample of one of them large, and with a Parquet file."""
    folder = tmp_path_factory.mktemp("data")
    for shard, name in enumerate(NAMES):
        first = shard * SAMPLES
        write_tar(folder / name, range(first, first + SAMPLES), large=SAMPLES)
    rows = [{"image": {"bytes": scene(number), "path": None}} for number in range(SAMPLES)]
    Dataset.from_list(rows, features=Features({"image": Image()})).to_parquet(folder / "p.parquet", batch_size=4)
    return folder


@pytest.fixture(scope="module")
def answered(data, tmp_path_factory):
    """The answers of a run on files. On the CPU they do not depend on the batch, to the bit."""
    output = tmp_path_factory.mktemp("answered")
    completed = run("ask", data, output, "-q", QUESTION)
    assert completed.returncode == 0, completed.stderr
    return output


@pytest.fixture(scope="module")
def server():
    # It logs every request.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def settings(server):
    """The environment of a program that uses the server."""
    return {
        **os.environ,
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


@pytest.fixture(scope="module")
def s3(server, data):
    """A client of the server, with the shards in the bucket `input`."""
    client = boto3.client(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="input")
    for path in data.iterdir():
        client.upload_file(str(path), "input", f"set/{path.name}")
    return client


@pytest.fixture
def bucket(s3, request):
    """An empty bucket."""
    name = request.node.name.split("[")[0].replace("_", "-")[:60]
    s3.create_bucket(Bucket=name)
    return name


def run(*arguments, env=None):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=120, check=False, env=env
    )


def keys(s3, bucket):
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def content(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def wait_until(is_reached, process):
    """Looks at a running program until it is at a place, for at most two minutes."""
    for _ in range(1200):
        if is_reached():
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        assert process.returncode is None, process.stderr.read()
    raise AssertionError("the program is not at the place")


def uploads(s3, bucket):
    return s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


def test_objects_are_those_of_a_run_on_files(s3, bucket, settings, answered, tmp_path):
    source = "s3://input/set/s-{0..2}.tar"
    for part, count in [("0/2", 2), ("1/2", 1)]:
        completed = run("ask", source, f"s3://{bucket}/a", "-q", QUESTION, "--shard", part, env=settings)
        assert completed.returncode == 0, completed.stderr
        assert f": {count} shards complete" in completed.stderr
    assert keys(s3, bucket) == [f"a/{name}" for name in NAMES]
    for name in NAMES:
        assert content(s3, bucket, f"a/{name}") == (answered / name).read_bytes()
        s3.download_file(bucket, f"a/{name}", str(tmp_path / name))
    assert uploads(s3, bucket) == []
    found = webdataset.WebDataset([str(tmp_path / name) for name in NAMES], shardshuffle=False)
    answers = {sample["__key__"]: json.loads(sample["blip.json"])["answer"] for sample in found}
    assert list(answers) == [f"{number:04}" for number in range(SHARDS * SAMPLES)] and all(answers.values())
    refused = run("ask", source, f"s3://{bucket}/a", "-q", QUESTION, env=settings)
    assert refused.returncode == 1
    assert f"s3://{bucket}/a/s-0.tar already exists: use --resume" in refused.stderr
    # The parts of two machines in two folders, and a folder of this machine.
    merged = [program(), "merge", f"s3://{bucket}/a/", "-o", f"s3://{bucket}/m", "-i", source]
    completed = subprocess.run(merged, capture_output=True, text=True, timeout=60, check=False, env=settings)
    assert completed.returncode == 0, completed.stderr
    assert content(s3, bucket, "m/s-1.tar") == (answered / "s-1.tar").read_bytes()
    assert uploads(s3, bucket) == []


def test_parquet_is_read_by_ranges_and_written(s3, bucket, settings, answered):
    completed = run("ask", "s3://input/set/p.parquet", f"s3://{bucket}", "-q", QUESTION, env=settings)
    assert completed.returncode == 0, completed.stderr
    table = pq.read_table(io.BytesIO(content(s3, bucket, "p.parquet")))
    assert table.equals(pq.read_table(answered / "p.parquet"))
    assert table.column("blip").to_pylist()[0]["answer"]


def test_killed_run_resumes_to_equal_bytes(s3, bucket, settings, answered):
    arguments = ("ask", "s3://input/set/s-{0..2}.tar", f"s3://{bucket}/out", "-q", QUESTION, "--resume")
    with subprocess.Popen(command(*arguments), env=settings, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: keys(s3, bucket), process)
        process.kill()
    before = {each["Key"]: each["LastModified"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    completed = run(*arguments, env=settings)
    assert completed.returncode == 0, completed.stderr
    made, had = map(int, re.search(r"(\d+) shards complete, (\d+) were already", completed.stderr).groups())
    # The server may still store what it had received from the killed run.
    assert made + had == SHARDS and had >= len(before)
    for name in NAMES:
        assert content(s3, bucket, f"out/{name}") == (answered / name).read_bytes()
    after = {each["Key"]: each["LastModified"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert before.items() <= after.items()


def test_missing_objects_and_buckets_are_named(s3, bucket, settings):
    completed = run("ask", "s3://input/set/s-{2..3}.tar", f"s3://{bucket}", "-q", QUESTION, env=settings)
    assert completed.returncode == 1
    assert "s3://input/set/s-3.tar: no such object or bucket (404)" in completed.stderr
    assert "1 shards complete, 0 were already, 1 cannot be read" in completed.stderr
    completed = run("ask", "s3://input/set/s-0.tar", "s3://absent/out", "-q", QUESTION, env=settings)
    assert completed.returncode == 1
    message = "cannot read the output folder s3://absent/out: no such object or bucket (404 NoSuchBucket)"
    assert message in completed.stderr


def test_errors_of_credentials_have_no_secrets(s3, server, bucket, settings, tmp_path):
    without = {name: value for name, value in settings.items() if "ACCESS_KEY" not in name}
    # In a cloud, the machine has credentials.
    without["AWS_METADATA_ENDPOINT"] = "http://127.0.0.1:1"
    completed = run("ask", "s3://input/set/s-0.tar", f"s3://{bucket}", "-q", QUESTION, env=without)
    assert completed.returncode == 1
    assert "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in completed.stderr

    def check_requests_after(count):
        requests.post(f"{server}/moto-api/reset-auth", data=str(count).encode(), timeout=10).raise_for_status()

    check_requests_after(0)
    try:
        completed = run("ask", "s3://input/set/s-0.tar", f"s3://{bucket}", "-q", QUESTION, env=settings)
        source, options = "s3://input/set/s-0.tar", ("-q", QUESTION, "--log", "debug")
        denied = run("ask", source, tmp_path, *options, env=settings)
    finally:
        check_requests_after(1 << 30)
    assert completed.returncode == denied.returncode == 1
    assert "access denied (403 InvalidAccessKeyId): check the credentials" in completed.stderr
    assert "s3://input/set/s-0.tar: access denied" in denied.stderr
    for each in (completed, denied):
        assert SECRET not in each.stderr + each.stdout and "Signature" not in each.stderr
    plain = {**settings, "AWS_ALLOW_HTTP": "false"}
    completed = run("ask", "s3://input/set/s-0.tar", f"s3://{bucket}", "-q", QUESTION, env=plain)
    assert "set AWS_ALLOW_HTTP=true to allow it" in completed.stderr


@contextmanager
def web_server(answer):
    """Serves files without ranges: `answer` returns status, length and body of a path.

    A body is bytes, or an iterator of them.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, length, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "GET":
                for part in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(part)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def stalling_server(files):
    """Serves files by name, each with its content and the number of bytes before the server stalls.

    None is for a server that does not stall, and -1 for one that sends no header.
    """
    end = threading.Event()

    def parts(content, count):
        yield content[:count]
        end.wait()

    def answer(path):
        content, count = files[path.removeprefix("/")]
        if count == -1:
            end.wait()
        return 200, len(content), content if count is None else parts(content, count)

    with web_server(answer) as address:
        try:
            yield address
        finally:
            end.set()


def test_interrupted_upload_leaves_no_parts(s3, bucket, settings, data):
    whole = (data / "s-1.tar").read_bytes()
    with stalling_server({"s-1.tar": (whole, 18 << 20)}) as address:
        arguments = command("ask", f"http://{address}/s-1.tar", f"s3://{bucket}", "-q", QUESTION)
        with subprocess.Popen(arguments, env=settings, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda: uploads(s3, bucket), process)
            process.send_signal(signal.SIGINT)
            stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert keys(s3, bucket) == uploads(s3, bucket) == []


@pytest.mark.parametrize("bytes_before_stall", [-1, 0, 5000])
def test_interrupted_run_ends_at_once_with_complete_shards(data, answered, tmp_path, bytes_before_stall):
    files = {name: ((data / name).read_bytes(), None) for name in NAMES}
    files[NAMES[2]] = (files[NAMES[2]][0], bytes_before_stall)
    with stalling_server(files) as address:
        arguments = command("ask", f"http://{address}/s-{{0..2}}.tar", tmp_path, "-q", QUESTION)
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
            wait_until((tmp_path / NAMES[1]).exists, process)
            process.send_signal(signal.SIGINT)
            # A request ends after 180 s.
            stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-2:] == [
        "blip-serve: 2 shards complete, 0 were already, 0 cannot be read",
        "blip-serve: stopped: use --resume to process the other shards",
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: (answered / name).read_bytes() for name in NAMES[:2]
    }


def test_web_server_gives_shards_and_hostile_ones_fail_alone(data, answered, tmp_path):
    whole = (data / "s-0.tar").read_bytes()

    def answer(path):
        assert path.endswith("?sig=hidden")
        match path.split("?")[0]:
            case "/0.tar":
                return 200, len(whole), whole
            case "/1.tar":
                return 200, len(whole), whole[: len(whole) // 2]
            case "/2.tar":
                return 403, 0, b""
            case "/3.tar":
                return 200, 1 << 60, whole
            case _:
                return 404, 0, b""

    with web_server(answer) as address:
        source = f"http://me:hidden@{address}/{{0..4}}.tar?sig=hidden"
        completed = run("ask", source, tmp_path, "-q", QUESTION)
    assert completed.returncode == 1
    assert "hidden" not in completed.stderr
    assert "1 shards complete, 0 were already, 4 cannot be read" in completed.stderr
    lines = completed.stderr.splitlines()
    for number, reason in [
        (1, "the server has ended its answer early"),
        (2, "access denied (403)"),
        (3, "the server has ended its answer early"),
        (4, "no such file (404)"),
    ]:
        (line,) = [line for line in lines if f"http://{address}/{number}.tar" in line]
        assert reason in line
    with tarfile.open(tmp_path / "0.tar") as archive, tarfile.open(answered / "s-0.tar") as expected:
        assert [each.name for each in archive] == [each.name for each in expected]


def test_record_file_by_url_has_images_beside_it(tmp_path):
    records = b"".join(b'{"image": "%d.png"}\n' % number for number in range(3))

    def answer(path):
        body = records if path == "/a/in.jsonl" else scene(int(path.removeprefix("/a/").split(".")[0]))
        return 200, len(body), body

    with web_server(answer) as address:
        output = tmp_path / "out.jsonl"
        completed = run("ask", f"http://{address}/a/in.jsonl", output, "-q", QUESTION)
    assert completed.returncode == 0, completed.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["image"] for line in lines] == ["0.png", "1.png", "2.png"]
    assert all(line["answer"] for line in lines)
    refused = run("ask", output, "s3://bucket/out.jsonl", "-q", QUESTION)
    assert refused.returncode == 1
    assert "cannot write records to s3://bucket/out.jsonl: use a file, or shards" in refused.stderr
    refused = run("ask", "a.tar", "http://host/out", "-q", QUESTION)
    assert "cannot write to http://host/out: expected a folder, s3://, gs:// or az://" in refused.stderr
