"""Fixtures: the stand-ins, models, and the engine over them."""

import os
from pathlib import Path

import checkpoint
import pytest
from engine import Engine


@pytest.fixture(scope="session")
def stand_in():
    """The folder of LibTorch with stand-ins for NVIDIA's libraries."""
    return Path(os.environ["CUDA_STAND_IN"])


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A model with two layers, whose heads have the width of those of released checkpoints."""
    shape = {"hidden": 128, "layers": 2, "heads": 2, "image_size": 64, "patch_size": 16, "vocabulary": 600}
    return checkpoint.make(tmp_path_factory.mktemp("models") / "small", **shape)


@pytest.fixture(scope="session")
def deep_model(tmp_path_factory):
    """The small model with six layers."""
    shape = {"hidden": 128, "layers": 6, "heads": 2, "image_size": 64, "patch_size": 16, "vocabulary": 600}
    return checkpoint.make(tmp_path_factory.mktemp("models") / "deep", **shape)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory):
    """A model with the shape of Salesforce/blip-vqa-base."""
    return checkpoint.make(tmp_path_factory.mktemp("models") / "base", **checkpoint.BASE)


@pytest.fixture
def start(stand_in, small_model, tmp_path):
    """A function that starts engines. They are stopped after the test."""
    engines = []

    def start(model=small_model, **options):
        path = tmp_path / f"trace{len(engines)}.tsv"
        engines.append(Engine(stand_in, path, model, **options))
        return engines[-1]

    yield start
    for engine in engines:
        engine.process.kill()
        engine.process.wait()
