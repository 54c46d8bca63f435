"""A data set of 2,000 samples in 8 tar shards, whose run is killed three times."""

import contextlib
import io
import random
import signal
import subprocess
import sys

import pytest
import webdataset
from conftest import ROOT
from test_shards import command, members, results, run

sys.path.append(str(ROOT / "models/training"))
from demo.data import scenes  # noqa: E402

SHARDS, SAMPLES = 8, 250
NAMES = [f"s-{shard:03}.tar" for shard in range(SHARDS)]
# The program is looked at this often, so that the test takes no core from it.
INTERVAL_S = 0.005


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder with the shards."""
    folder, rng = tmp_path_factory.mktemp("shards"), random.Random(8)
    for shard, name in enumerate(NAMES):
        with webdataset.TarWriter(str(folder / name), mtime=0) as writer:
            for number in range(shard * SAMPLES, (shard + 1) * SAMPLES):
                scene, file = scenes.sample(rng, count=rng.randint(1, 2)), io.BytesIO()
                scenes.draw(scene).save(file, "PNG", compress_level=1)
                colours = [thing.color for thing in scene.things]
                writer.write(
                    {"__key__": f"{number:06}", "png": file.getvalue(), "json": {"colours": colours}}
                )
    return folder


@pytest.fixture(scope="module")
def unbroken(shards, tmp_path_factory):
    """The output of a run without interruption."""
    output = tmp_path_factory.mktemp("unbroken")
    completed = run("caption", shards, output)
    assert completed.returncode == 0, completed.stderr
    return output


@pytest.fixture(scope="module")
def continued(shards, tmp_path_factory):
    """The output of a run that was killed within a shard, between two and at the start of one."""
    output = tmp_path_factory.mktemp("continued")

    def partial_bytes(name):
        with contextlib.suppress(FileNotFoundError):
            return (output / f".{name}.partial").stat().st_size
        return None

    # The program can be beyond the place when it is killed, but never before it.
    for complete, is_reached in [
        (1, lambda: partial_bytes(NAMES[1])),
        (3, lambda: (output / NAMES[2]).exists()),
        (5, lambda: partial_bytes(NAMES[5]) is not None),
    ]:
        is_after = [output / name for name in NAMES[complete:]]
        arguments = command("caption", shards, output, "--resume")
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
            while not (is_reached() or any(path.exists() for path in is_after)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(INTERVAL_S)
                assert process.returncode is None, process.stderr.read()
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert complete <= len(list(output.glob("s-*.tar"))) < SHARDS
    already = len(list(output.glob("s-*.tar")))
    completed = run("caption", shards, output, "--resume")
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr.splitlines()[-1] == (
        f"blip-serve: {SHARDS - already} shards complete, {already} were already, 0 cannot be read"
    )
    return output


def test_run_killed_three_times_has_equal_bytes(unbroken, continued):
    assert sorted(path.name for path in continued.glob("s-*.tar")) == NAMES
    for name in NAMES:
        assert (continued / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_members_of_the_input_are_copied_byte_for_byte(shards, continued):
    for name in NAMES:
        copied = [member for member in members(continued / name) if not member[0].endswith(".blip.json")]
        assert copied == members(shards / name)


def test_webdataset_reads_a_caption_for_each_sample(continued):
    captions = results(continued)
    assert list(captions) == [f"{number:06}" for number in range(SHARDS * SAMPLES)]
    assert all(result["caption"] and result["token_ids"] for result in captions.values())
    # The scenes differ, so a caption that belongs to another sample would be found.
    assert len({result["caption"] for result in captions.values()}) > SAMPLES
