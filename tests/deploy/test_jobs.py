"""The job that captions shards: its manifest, and its command in several processes."""

import io
import json
import signal
import subprocess
import tarfile

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT, program

JOB = ROOT / "deploy/jobs/caption-shards.yaml"
PODS = 8
# Two shards for each pod.
SHARDS, SAMPLES = 16, 6
# The second shard of the pod that gets lost has more samples, so that it is lost in the middle.
LOST, LOST_SAMPLES = 3, 600


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load(JOB.read_text())


def samples(shard):
    return LOST_SAMPLES if shard == PODS + LOST else SAMPLES


def arguments(job, index, folder):
    """Returns the arguments of a pod, with the demo model and small shards in `folder`."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    replacements = {
        "$(JOB_COMPLETION_INDEX)": str(index),
        "/data": str(folder),
        "000..127": f"000..{SHARDS - 1:03}",
        "Salesforce/blip-image-captioning-large": "demo-caption",
        "--device=cuda": "--device=cpu",
    }
    result = container["args"]
    for old, new in replacements.items():
        assert any(old in argument for argument in result), old
        result = [argument.replace(old, new) for argument in result]
    return [program(), *result]


@pytest.fixture
def folder(tmp_path):
    """A folder with shards of the demo image."""
    image = (ROOT / "models/demo/demo.png").read_bytes()
    (tmp_path / "shards").mkdir()
    for shard in range(SHARDS):
        with tarfile.open(tmp_path / f"shards/shard-{shard:03}.tar", "w") as archive:
            for sample in range(samples(shard)):
                member = tarfile.TarInfo(f"{shard:03}{sample:03}.png")
                member.size = len(image)
                archive.addfile(member, io.BytesIO(image))
    return tmp_path


def captions(folder):
    """Returns the caption of each sample of each shard."""
    result = {}
    for path in folder.iterdir():
        with tarfile.open(path) as archive:
            results = [member for member in archive if member.name.endswith(".blip.json")]
            result[path.name] = {
                member.name: json.load(archive.extractfile(member))["caption"] for member in results
            }
    return result


def test_manifest_is_a_valid_job(job):
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == PODS


def test_job_survives_the_loss_of_a_pod(job, folder):
    pods = [
        subprocess.Popen(arguments(job, index, folder), stderr=subprocess.PIPE, text=True)
        for index in range(PODS)
    ]
    lost, first = pods[LOST], folder / f"captioned/shard-{LOST:03}.tar"
    while not first.exists():
        assert lost.poll() is None, lost.stderr.read()
    lost.send_signal(signal.SIGKILL)
    outputs = [pod.communicate(timeout=120)[1] for pod in pods]
    assert lost.returncode == -signal.SIGKILL
    assert all(pod.returncode == 0 for pod in pods if pod is not lost), outputs
    complete = first.stat().st_mtime_ns
    # The controller starts a pod with the same index.
    again = subprocess.run(
        arguments(job, LOST, folder), capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == 0, again.stderr
    assert first.stat().st_mtime_ns == complete, "a complete shard was made again"
    names = [f"shard-{shard:03}.tar" for shard in range(SHARDS)]
    assert sorted(captions(folder / "captioned")) == names
    counts = [len(shard) for _, shard in sorted(captions(folder / "captioned").items())]
    assert counts == [samples(shard) for shard in range(SHARDS)]
    # One process makes the same.
    alone = arguments(job, 0, folder)
    alone = [argument.replace("/captioned", "/alone").replace("0/8", "0/1") for argument in alone]
    subprocess.run(alone, check=True, capture_output=True, timeout=120)
    assert captions(folder / "alone") == captions(folder / "captioned")
