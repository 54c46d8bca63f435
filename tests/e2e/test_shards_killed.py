"""A data set of 2,000 samples in 8 shards, tar or Parquet, whose run is killed three times."""

import contextlib
import io
import random
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import webdataset
from conftest import ROOT
from datasets import Dataset, Features, Image, List, Value
from test_shards import command, members, results, run

sys.path.append(str(ROOT / "models/training"))
from demo.data import scenes  # noqa: E402

SHARDS, SAMPLES = 8, 250
ROW_GROUP = 50
FEATURES = Features({"image": Image(), "colours": List(Value("string"))})
# The program is looked at this often, so that the test takes no core from it.
INTERVAL_S = 0.005


def write_tar(path, first, samples):
    with webdataset.TarWriter(str(path), mtime=0) as writer:
        for number, (png, colours) in enumerate(samples, first):
            writer.write({"__key__": f"{number:06}", "png": png, "json": {"colours": colours}})


def write_parquet(path, first, samples):
    rows = [
        {"image": {"bytes": png, "path": f"{number:06}.png"}, "colours": colours}
        for number, (png, colours) in enumerate(samples, first)
    ]
    Dataset.from_list(rows, features=FEATURES).to_parquet(path, batch_size=ROW_GROUP)


FORMS = {"tar": write_tar, "parquet": write_parquet}


def names(form):
    return [f"s-{shard:03}.{form}" for shard in range(SHARDS)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder with the shards for each form. The scenes are the same."""
    folders, rng = {form: tmp_path_factory.mktemp(form) for form in FORMS}, random.Random(8)
    for shard in range(SHARDS):
        samples = []
        for _ in range(SAMPLES):
            scene, file = scenes.sample(rng, count=rng.randint(1, 2)), io.BytesIO()
            scenes.draw(scene).save(file, "PNG", compress_level=1)
            samples.append((file.getvalue(), [thing.color for thing in scene.things]))
        for form, write in FORMS.items():
            write(folders[form] / names(form)[shard], shard * SAMPLES, samples)
    return folders


@pytest.fixture(scope="module")
def unbroken(shards, tmp_path_factory):
    """The output of a run without interruption for each form."""
    outputs = {form: tmp_path_factory.mktemp(f"unbroken_{form}") for form in FORMS}
    for form, output in outputs.items():
        completed = run("caption", shards[form], output)
        assert completed.returncode == 0, completed.stderr
    return outputs


def killed_and_continued(form, source, output):
    """Runs the command, killed within a shard, between two and at the start of one."""
    shards = names(form)

    def partial_bytes(name):
        with contextlib.suppress(FileNotFoundError):
            return (output / f".{name}.partial").stat().st_size
        return None

    # The program can be beyond the place when it is killed, but never before it.
    for complete, is_reached in [
        (1, lambda: partial_bytes(shards[1])),
        (3, lambda: (output / shards[2]).exists()),
        (5, lambda: partial_bytes(shards[5]) is not None),
    ]:
        is_after = [output / name for name in shards[complete:]]
        arguments = command("caption", source, output, "--resume")
        with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
            while not (is_reached() or any(path.exists() for path in is_after)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(INTERVAL_S)
                assert process.returncode is None, process.stderr.read()
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert complete <= len(list(output.glob("s-*"))) < SHARDS
    already = len(list(output.glob("s-*")))
    completed = run("caption", source, output, "--resume")
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr.splitlines()[-1] == (
        f"blip-serve: {SHARDS - already} shards complete, {already} were already, 0 cannot be read"
    )


@pytest.fixture(scope="module")
def continued(shards, tmp_path_factory):
    """The output of a run that was killed three times for each form."""
    outputs = {form: tmp_path_factory.mktemp(f"continued_{form}") for form in FORMS}
    for form, output in outputs.items():
        killed_and_continued(form, shards[form], output)
    return outputs


@pytest.mark.parametrize("form", FORMS)
def test_run_killed_three_times_has_equal_bytes(unbroken, continued, form):
    assert sorted(path.name for path in continued[form].iterdir()) == names(form)
    for name in names(form):
        assert (continued[form] / name).read_bytes() == (unbroken[form] / name).read_bytes(), name


def test_members_of_the_input_are_copied_byte_for_byte(shards, continued):
    for name in names("tar"):
        entries = members(continued["tar"] / name)
        copied = [member for member in entries if not member[0].endswith(".blip.json")]
        assert copied == members(shards["tar"] / name)


def test_columns_of_the_input_are_copied(shards, continued):
    for name in names("parquet"):
        before, after = pq.ParquetFile(shards["parquet"] / name), pq.ParquetFile(continued["parquet"] / name)
        assert after.num_row_groups == before.num_row_groups == SAMPLES // ROW_GROUP
        assert after.read().drop(["blip"]).equals(before.read(), check_metadata=True)


def test_webdataset_reads_a_caption_for_each_sample(continued):
    captions = results(continued["tar"])
    assert list(captions) == [f"{number:06}" for number in range(SHARDS * SAMPLES)]
    assert all(result["caption"] and result["token_ids"] for result in captions.values())
    # The scenes differ, so a caption that belongs to another sample would be found.
    assert len({result["caption"] for result in captions.values()}) > SAMPLES


def test_datasets_reads_the_captions_of_tar_shards(continued, tmp_path):
    paths = [str(continued["parquet"] / name) for name in names("parquet")]
    rows = Dataset.from_parquet(paths, cache_dir=str(tmp_path))
    assert dict(rows.remove_columns("blip").features) == dict(FEATURES)
    expected = results(continued["tar"])
    images = rows.cast_column("image", Image(decode=False))["image"]
    keys = [image["path"].removesuffix(".png") for image in images]
    assert keys == list(expected)
    assert [found["caption"] for found in rows["blip"]] == [expected[key]["caption"] for key in keys]
    assert [found["score"] for found in rows["blip"]] == pytest.approx(
        [expected[key]["score"] for key in keys], abs=1e-6
    )
    assert all(found["error"] is None for found in rows["blip"])
    assert rows[SAMPLES]["image"].getbbox() is not None
