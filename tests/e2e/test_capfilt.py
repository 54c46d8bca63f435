"""CapFilt on drawn scenes, of which every other text is wrong."""

import csv
import io
import json
import random
import re
import signal
import subprocess
import sys
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from conftest import ROOT, program
from datasets import Dataset, Features, Image, Value

sys.path.append(str(ROOT / "tests/reference"))
import filter_accuracy  # noqa: E402

SHARDS, SAMPLES = 4, 25
SCENES = SHARDS * SAMPLES
LOCAL = ("--local", "--device", "cpu", "--engine-threads", "1")


def capfilt(source, output, *options, target=LOCAL, command="capfilt"):
    arguments = [command, *target, "-i", source, "-o", output, *options]
    return [program(), *map(str, arguments)]


def run(*arguments, cwd=None, **options):
    command = capfilt(*arguments, **options)
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with shards and a record file of the same scenes, the kinds and the web texts."""
    folder = tmp_path_factory.mktemp("scenes")
    drawn = filter_accuracy.draw_scenes(SCENES)
    all_kinds = [kinds for _, kinds in drawn]
    texts = filter_accuracy.web_texts(all_kinds)
    filter_accuracy.write_records(folder, [image for image, _ in drawn], texts)
    for shard in range(SHARDS):
        with webdataset.TarWriter(str(folder / f"s-{shard}.tar"), mtime=0) as writer:
            for at in range(shard * SAMPLES, (shard + 1) * SAMPLES):
                png = (folder / f"{at}.png").read_bytes()
                writer.write({"__key__": f"{at:04}", "png": png, "txt": texts[at]})
    return folder, all_kinds, texts


@pytest.fixture(scope="module")
def filtered(data, tmp_path_factory):
    """The output of an unbroken run on the shards, with its reports."""
    folder = tmp_path_factory.mktemp("filtered")
    reports = ("--report", folder / "report.json", "--report", folder / "report.md")
    completed = run(data[0] / "s-{0..3}.tar", folder / "out", "--captions", "2", *reports)
    assert completed.returncode == 0, completed.stderr
    return folder


def shard_results(folder):
    """Returns the results in shards, in the order of the samples."""
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    samples = webdataset.WebDataset(urls, shardshuffle=False)
    return [json.loads(sample["blip.json"]) for sample in samples]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts_of(results):
    """Returns the texts of each result. Probabilities depend on their batch, slightly."""
    return [
        [(text["text"], text["source"], pytest.approx(text["probability"], abs=1e-4)) for text in texts]
        for texts in (result["scored_texts"] for result in results)
    ]


def counts(report, source):
    return [report[source][name] for name in ("passed", "dropped", "rejected")]


def test_filter_separates_right_texts_from_wrong_ones(data, filtered):
    _, all_kinds, texts = data
    results = shard_results(filtered / "out")
    assert len(results) == SCENES
    for result, text in zip(results, texts, strict=True):
        assert set(result) == {"scored_texts", "passed_texts"}
        first, *synthetic = result["scored_texts"]
        assert (first["text"], first["source"]) == (text, "web")
        assert len(synthetic) <= 2 and all(one["source"] == "synthetic" for one in synthetic)
        every = [one["text"] for one in result["scored_texts"]]
        assert len(set(every)) == len(every)
        assert all(one["passed"] == (one["probability"] > 0.5) for one in result["scored_texts"])
        passed = [one["text"] for one in result["scored_texts"] if one["passed"]]
        assert result["passed_texts"] == passed
    precision, recall, before = filter_accuracy.shares(filter_accuracy.judge(results, all_kinds, "web"))
    assert before == 0.5
    assert precision >= 0.95 and recall >= 0.9, (precision, recall)
    precision, recall, before = filter_accuracy.shares(filter_accuracy.judge(results, all_kinds, "synthetic"))
    assert precision >= before + 0.05 and recall >= 0.9, (precision, recall, before)


def test_report_is_that_of_the_output(filtered):
    results = shard_results(filtered / "out")
    report = json.loads((filtered / "report.json").read_text())
    assert [report[name] for name in ("records", "failed", "without_web_text")] == [SCENES, 0, 0]
    markdown = (filtered / "report.md").read_text()
    for source in ("web", "synthetic"):
        every = [
            text for result in results for text in result["scored_texts"] if text["source"] == source
        ]
        passed = [text for text in every if text["passed"]]
        assert counts(report, source) == [len(passed), len(every) - len(passed), 0]
        bins = report[source]["histogram"]
        assert [each["count"] for each in bins[:-1]] == [
            sum(each["from"] <= text["probability"] < each["to"] for text in every) for each in bins[:-1]
        ]
        assert sum(each["count"] for each in bins) == len(every)
        for kind in ("passed", "dropped"):
            sample = report[source][f"{kind}_sample"]
            assert len(sample) == min(10, report[source][kind])
            for text in sample:
                result = results[int(text["record"])]["scored_texts"]
                (scored,) = [each for each in result if each["text"] == text["text"]]
                assert scored["passed"] == (kind == "passed")
                assert f"| {text['record']} | {text['text']} | {text['probability']:.4f} |" in markdown
        assert f"{len(passed)} ({100 * len(passed) / len(every):.1f}%)" in markdown


def test_training_reads_the_texts_that_passed(filtered):
    """The code of the guide."""

    def image_and_text(sample):
        return sample["png"], random.choice(sample["blip.json"]["passed_texts"])

    urls = [str(path) for path in sorted((filtered / "out").glob("*.tar"))]
    data = webdataset.WebDataset(urls, shardshuffle=False).decode("pil")
    data = data.select(lambda sample: sample["blip.json"].get("passed_texts")).map(image_and_text)
    passed = [result["passed_texts"] for result in shard_results(filtered / "out") if result["passed_texts"]]
    for (image, text), texts in zip(data, passed, strict=True):
        assert image.size > (0, 0) and text in texts


def test_killed_run_resumes_to_the_same_output_and_report(data, filtered, tmp_path):
    output, report = tmp_path / "out", tmp_path / "report.json"
    options = (data[0] / "s-{0..3}.tar", output, "--captions", "2", "--report", report, "--resume")
    with subprocess.Popen(capfilt(*options), stderr=subprocess.PIPE, text=True) as process:
        while not (output / "s-0.tar").exists():
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)
    completed = run(*options)
    assert completed.returncode == 0, completed.stderr
    assert texts_of(shard_results(output)) == texts_of(shard_results(filtered / "out"))
    whole = json.loads((filtered / "report.json").read_text())
    assert counts(json.loads(report.read_text()), "web") == counts(whole, "web")
    # The report of a complete output needs no model.
    report.unlink()
    again = run(*options, target=("--server", "http://127.0.0.1:1"))
    assert again.returncode == 0 and counts(json.loads(report.read_text()), "web") == counts(whole, "web")
    other = run(*options, "--threshold", "0.9")
    assert other.returncode == 1 and "with another threshold than 0.9" in other.stderr


def test_captions_of_a_record_depend_on_its_image_and_the_seed(data, tmp_path):
    folder, _, texts = data
    records = lines(folder / "records.jsonl")[:16]
    outputs = {}
    for name, order, options in [
        ("forwards", records, ()),
        ("backwards", records[::-1], ("--in-flight", "2")),
        ("other", records, ("--seed", "1")),
    ]:
        source = folder / f"{name}.jsonl"
        source.write_text("".join(json.dumps(record) + "\n" for record in order))
        completed = run(source, tmp_path / f"{name}.jsonl", *options)
        assert completed.returncode == 0, completed.stderr
        written = sorted(lines(tmp_path / f"{name}.jsonl"), key=lambda line: line["id"])
        assert [line["text"] for line in written] == texts[:16]
        outputs[name] = texts_of(written)
    assert outputs["forwards"] == outputs["backwards"] != outputs["other"]


def test_csv_has_the_texts_and_the_report_reads_it(data, tmp_path):
    folder, _, texts = data
    rows = [["id", "image", "text"], *([at, f"{at}.png", texts[at]] for at in range(12)), [12, "12.png", ""]]
    with open(folder / "in.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = tmp_path / "report.json"
    completed = run(folder / "in.csv", tmp_path / "out.csv", "--threshold", "0.3", "--report", report)
    assert completed.returncode == 0, completed.stderr
    with open(tmp_path / "out.csv", newline="") as file:
        written = list(csv.DictReader(file))
    passed = [len(json.loads(line["passed_texts"])) for line in written]
    scored = [json.loads(line["scored_texts"]) for line in written]
    assert [sum(text["probability"] > 0.3 for text in line) for line in scored] == passed
    assert all(text["source"] == "synthetic" for text in scored[12])
    report = json.loads(report.read_text())
    assert (report["threshold"], report["records"], report["without_web_text"]) == (0.3, 13, 1)
    assert report["web"]["passed"] + report["synthetic"]["passed"] == sum(passed)


def test_bad_records_are_errors_and_the_others_are_filtered(data, tmp_path):
    folder, _, texts = data
    long_text = "a circle " * 600
    records = [
        {"id": "good", "image": "0.png", "text": texts[0]},
        {"id": "absent", "image": "absent.png", "text": texts[0]},
        {"id": "none", "text": texts[0]},
        {"id": "number", "image": "0.png", "text": 3},
        {"id": "long", "image": "2.png", "text": long_text},
    ]
    source = folder / "bad.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records) + "{\n")
    report = tmp_path / "report.json"
    completed = run(source, tmp_path / "out.jsonl", "--report", report)
    assert completed.returncode == 1 and "6 lines, 4 failed" in completed.stderr, completed.stderr
    written = lines(tmp_path / "out.jsonl")
    assert written[0]["passed_texts"][0] == texts[0]
    errors = [line["error"]["message"] for line in written if "error" in line]
    assert "absent.png" in errors[0] and errors[1:3] == ["image is missing", "text is 3: must be a text"]
    assert errors[3].startswith("line is not valid JSON")
    web, synthetic = written[4]["scored_texts"]
    assert web["error"]["reason"] == "QUESTION_TOO_LONG" and not web["passed"] and "probability" not in web
    assert synthetic["source"] == "synthetic" and 0 <= synthetic["probability"] <= 1
    report = json.loads(report.read_text())
    assert (report["records"], report["failed"], counts(report, "web")) == (6, 4, [1, 0, 1])


def encoded_images(server):
    """Returns the number of images that each model has encoded."""
    metrics = urllib.request.urlopen(f"{server.metrics}/metrics").read().decode()
    found = re.findall(r'^blip_batch_encoded_images_sum{model="(.+)"} (\d+)$', metrics, re.M)
    return {model: int(number) for model, number in found}


def test_server_encodes_an_image_once_for_each_model(start, data, tmp_path):
    folder, _, texts = data
    # A self-test encodes an image, too.
    options = ("--self-test-idle-s", "0")
    server = start("--model", "demo-match", "--model", "writer=demo-caption", *options)
    records = [
        {"id": f"{at} {kind}", "image": f"{at}.png", "text": text}
        for at in range(10)
        for kind, text in enumerate((texts[at], "a red star"))
    ]
    source = folder / "two.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    target = ("--server", f"http://{server.address}")
    names = ("--caption-model", "writer", "--match-model", "demo-match")
    completed = run(source, tmp_path / "out.jsonl", "--captions", "3", *names, target=target)
    assert completed.returncode == 0, completed.stderr
    assert encoded_images(server) == {"writer": 10, "demo-match": 10}
    # The defaults are the first models for the tasks.
    default = run(source, tmp_path / "default.jsonl", "--captions", "3", target=target)
    assert default.returncode == 0, default.stderr
    assert texts_of(lines(tmp_path / "default.jsonl")) == texts_of(lines(tmp_path / "out.jsonl"))
    swapped = run(source, tmp_path / "x.jsonl", "--caption-model", "demo-match", target=target)
    assert swapped.returncode == 1 and "demo-match" in lines(tmp_path / "x.jsonl")[0]["error"]["message"]


def test_images_of_the_command_line_are_captioned_and_scored(data):
    names = ("--caption-model", "demo-caption", "--match-model", "demo-match")
    command = [program(), "capfilt", *LOCAL, str(data[0] / "0.png"), "--captions", "3", *names]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 0, completed.stderr
    assert re.fullmatch(r"\S+0\.png  -> (a .+ \(\d\.\d{3}(, dropped)?\)(; )?)+\n", completed.stdout)


def test_prompt_is_left_out_of_the_texts(data, tmp_path):
    options = ("--prompt", "A picture of", "--sample=false")
    completed = run(data[0] / "s-0.tar", tmp_path / "out", *options)
    assert completed.returncode == 0, completed.stderr
    texts = [
        text["text"]
        for result in shard_results(tmp_path / "out")
        for text in result["scored_texts"]
        if text["source"] == "synthetic"
    ]
    assert texts and not any(text.lower().startswith("a pic") for text in texts)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--threshold", "1.1"], 2, "must be a number from 0 to 1"),
        (["--report", "report.txt"], 2, "must end in .md or .json"),
        (["--caption-model", "demo-caption"], 2, "name both, or none for the demo models"),
        (["--match-model", "demo-match"], 2, "name both, or none for the demo models"),
        (["--captions", "1000"], 1, "num_answers"),
    ],
)
def test_wrong_options_are_errors_that_say_so(data, tmp_path, options, code, message):
    completed = run(data[0] / "records.jsonl", tmp_path / "out.jsonl", *options)
    output = completed.stderr + (lines(tmp_path / "out.jsonl")[0]["error"]["message"] if code == 1 else "")
    assert completed.returncode == code and message in output, completed


def test_report_needs_an_output_of_the_command(data, tmp_path):
    piped = run(data[0] / "records.jsonl", "-", "--report", tmp_path / "report.md")
    assert piped.returncode == 1 and "--report needs --output FILE" in piped.stderr
    record = {"id": 0, "image": "0.png", "caption": "of another command"}
    (tmp_path / "out.jsonl").write_text(json.dumps(record) + "\n")
    source = io.StringIO((data[0] / "records.jsonl").read_text())
    (data[0] / "one.jsonl").write_text(source.readline())
    other = run(
        data[0] / "one.jsonl", tmp_path / "out.jsonl", "--resume", "--report", tmp_path / "report.md"
    )
    assert other.returncode == 1 and "record 1 of the output: scored_texts is missing" in other.stderr
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize("exists", [False, True])
def test_report_in_place_of_the_input_or_the_output_is_an_error(data, tmp_path, exists):
    record = (data[0] / "records.jsonl").read_text().splitlines(keepends=True)[0]
    (tmp_path / "in.json").write_text(record)
    (tmp_path / "link").symlink_to(tmp_path)
    if exists:
        (tmp_path / "a.json").write_text("{}\n")
    for report in ("a.json", "./a.json", tmp_path / "a.json", "link/a.json"):
        same = run("in.json", "a.json", "--resume", "--report", report, cwd=tmp_path)
        assert same.returncode == 1 and "a.json is the output: name another report" in same.stderr
    for report in ("in.json", "./in.json", "link/in.json"):
        same = run("in.json", "a.json", "--resume", "--report", report, cwd=tmp_path)
        assert same.returncode == 1 and "in.json is the input: name another report" in same.stderr
    assert (tmp_path / "in.json").read_text() == record
    assert (tmp_path / "a.json").exists() == exists


@pytest.fixture(scope="module")
def parquet_files(data, tmp_path_factory):
    """A folder with the scenes and the web texts of the tar shards."""
    folder, (images, _, texts) = tmp_path_factory.mktemp("parquet"), data
    for shard in range(SHARDS):
        numbers = range(shard * SAMPLES, (shard + 1) * SAMPLES)
        files = [{"bytes": (images / f"{at}.png").read_bytes(), "path": None} for at in numbers]
        columns = {"image": files, "text": [texts[at] for at in numbers]}
        features = Features({"image": Image(), "text": Value("string")})
        Dataset.from_dict(columns, features=features).to_parquet(
            folder / f"s-{shard}.parquet", batch_size=10
        )
    return folder


def parquet_results(folder):
    """Returns the results in Parquet files in the order of their rows, without null fields."""

    def without_nulls(value):
        if isinstance(value, dict):
            return {name: without_nulls(each) for name, each in value.items() if each is not None}
        return [without_nulls(each) for each in value] if isinstance(value, list) else value

    paths = sorted(folder.glob("*.parquet"))
    return without_nulls([row for path in paths for row in pq.read_table(path)["blip"].to_pylist()])


def test_parquet_has_the_texts_and_the_report_of_tar_shards(data, parquet_files, filtered, tmp_path):
    report = tmp_path / "report.json"
    options = ("--captions", "2", "--report", report)
    completed = run(parquet_files, tmp_path / "out", *options)
    assert completed.returncode == 0, completed.stderr
    results = parquet_results(tmp_path / "out")
    assert texts_of(results) == texts_of(shard_results(filtered / "out"))
    for result in results:
        assert set(result) == {"scored_texts", "passed_texts"}
        assert result["passed_texts"] == [text["text"] for text in result["scored_texts"] if text["passed"]]
    for path in parquet_files.iterdir():
        output = pq.read_table(tmp_path / "out" / path.name)
        assert output.drop(["blip"]).equals(pq.read_table(path), check_metadata=True)
    actual, expected = (json.loads(path.read_text()) for path in (report, filtered / "report.json"))
    for source in ("web", "synthetic"):
        assert counts(actual, source) == counts(expected, source)
    (first, *_) = actual["web"]["passed_sample"]
    file, row = first["record"].split(":")
    assert data[2][SAMPLES * int(file[2]) + int(row)] == first["text"]
    # The report of a complete output needs no model.
    report.unlink()
    again = run(parquet_files, tmp_path / "out", *options, "--resume", target=("--server", "http://127.0.0.1:1"))
    assert again.returncode == 0 and json.loads(report.read_text()) == actual, again.stderr


def test_training_reads_the_texts_that_passed_from_parquet(parquet_files, tmp_path):
    """The code of the guide."""
    completed = run(parquet_files / "s-0.parquet", tmp_path / "out")
    assert completed.returncode == 0, completed.stderr
    rows = Dataset.from_parquet(str(tmp_path / "out/s-0.parquet"), cache_dir=str(tmp_path / "cache"))
    rows = rows.filter(lambda row: row["blip"]["passed_texts"])
    pairs = [(row["image"], random.choice(row["blip"]["passed_texts"])) for row in rows]
    passed = [result["passed_texts"] for result in parquet_results(tmp_path / "out")]
    passed = [texts for texts in passed if texts]
    assert passed and len(pairs) == len(passed)
    for (image, text), texts in zip(pairs, passed, strict=True):
        assert image.size > (0, 0) and text in texts


def test_bad_rows_are_errors_and_prompts_and_texts_are_columns(data, tmp_path):
    folder, _, texts = data
    png = (folder / "0.png").read_bytes()
    table = pa.table(
        {
            "img": [png, b"no image", png, png],
            "alt": [texts[0], texts[0], "a circle " * 600, None],
            "prompt": [None, None, None, "A picture of"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    completed = run(tmp_path / "a.parquet", tmp_path / "out", "--text-column", "alt", "--sample=false")
    assert completed.returncode == 1 and "4 lines, 1 failed" in completed.stderr, completed.stderr
    good, bad, long, prompted = parquet_results(tmp_path / "out")
    assert good["scored_texts"][0]["text"] == texts[0]
    assert bad["error"]["reason"] == "IMAGE_FORMAT_UNKNOWN" and "scored_texts" not in bad
    web, synthetic = long["scored_texts"]
    assert web["error"]["reason"] == "QUESTION_TOO_LONG" and "probability" not in web and not web["passed"]
    assert 0 <= synthetic["probability"] <= 1
    (text,) = prompted["scored_texts"]
    assert text["source"] == "synthetic" and not text["text"].lower().startswith("a pic")
    retried = run(tmp_path / "a.parquet", tmp_path / "out", "--text-column", "alt", "--retry-failed")
    assert retried.returncode == 1 and "1 lines, 1 failed" in retried.stderr, retried.stderr
    assert parquet_results(tmp_path / "out") == [good, bad, long, prompted]


@pytest.mark.parametrize("option", ["--image-column", "--text-column"])
def test_columns_of_other_files_are_an_error(data, tmp_path, option):
    for source in ("records.jsonl", "s-0.tar", "s-{0..3}.tar"):
        for command in ("capfilt", "caption"):
            completed = run(data[0] / source, tmp_path / "out", option, "text", command=command)
            assert completed.returncode == 1, completed
            assert "--image-column and --text-column are for Parquet files" in completed.stderr
            assert not (tmp_path / "out").exists()
