"""The public BLIP checkpoints, and folders with their files and shapes and random weights."""

import os
import shutil
from dataclasses import dataclass

import pickles
import random_checkpoint
import torch
from released_files import DOWNLOADED, PICKLE, SAFETENSORS, write_unused_files, write_vocabulary
from safetensors.torch import load_file, save_file

SEED = 11
# Added to the logit of the stop token, so that answers and captions have realistic lengths.
STOP_BIAS = 6.0


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """A checkpoint: its shapes, a key of `random_checkpoint.PRESETS`, and its weight files."""

    name: str
    preset: str
    task: str
    parameters: int
    weights: tuple = (SAFETENSORS, PICKLE)
    embedding_size: int = 0

    @property
    def source(self):
        return f"Salesforce/{self.name}"

    @property
    def downloaded(self):
        """The files that blip-serve downloads."""
        return DOWNLOADED | {self.weights[0]}


QUESTIONS, CAPTIONS, MATCHING = "TASK_QUESTION_ANSWERING", "TASK_CAPTIONING", "TASK_MATCHING"
RELEASED = (
    ReleasedCheckpoint("blip-vqa-base", "vqa", QUESTIONS, 361_230_140),
    ReleasedCheckpoint("blip-vqa-capfilt-large", "vqa", QUESTIONS, 361_230_140, (PICKLE,)),
    ReleasedCheckpoint("blip-image-captioning-base", "caption-base", CAPTIONS, 223_971_644),
    ReleasedCheckpoint("blip-image-captioning-large", "caption-large", CAPTIONS, 446_290_492),
    ReleasedCheckpoint("blip-itm-base-coco", "itm-base", MATCHING, 223_744_258, embedding_size=256),
    ReleasedCheckpoint(
        "blip-itm-base-flickr", "itm-base", MATCHING, 223_744_258, (PICKLE,), embedding_size=256
    ),
    ReleasedCheckpoint("blip-itm-large-coco", "itm-large", MATCHING, 446_128_642, embedding_size=256),
    ReleasedCheckpoint(
        "blip-itm-large-flickr", "itm-large", MATCHING, 446_128_642, (PICKLE,), embedding_size=256
    ),
)
# The file of the original repository. Its image size is 480 x 480, so that it has more positions
# and parameters than the one on the hub.
ORIGINAL = ReleasedCheckpoint(
    "model_base_vqa_capfilt_large.pth", "vqa", QUESTIONS, 361_230_140 + (30**2 - 24**2) * 768
)
ORIGINAL_IMAGE_SIZE = 480


def write_shapes(folder, preset, image_size=384):
    """Writes the common files of all checkpoints of these shapes, with both weight formats."""
    folder.mkdir()
    model_class, vision, text = random_checkpoint.PRESETS[preset]
    vision = vision | {"image_size": image_size}
    config, tensors = random_checkpoint.weights(model_class, vision, text, SEED, torch.float32, STOP_BIAS)
    state = pickles.full_state(tensors)
    torch.save(state, folder / PICKLE)
    # Tensors in a safetensors file must not share memory.
    save_file(
        {name: tensor.clone() for name, tensor in state.items()},
        folder / SAFETENSORS,
        metadata={"format": "pt"},
    )
    random_checkpoint.write_configuration(folder, config, model_class.__name__)
    write_vocabulary(folder)


def write_released(folder, released, shapes):
    """Writes the folder of a checkpoint as on the hub. The weights are hard links."""
    folder.mkdir(parents=True)
    for path in shapes.iterdir():
        if path.name in DOWNLOADED | set(released.weights):
            os.link(path, folder / path.name)
    write_unused_files(folder)


def write_original(folder, shapes):
    """Writes a checkpoint file of the original repository and its configuration.

    Returns its path.
    """
    folder.mkdir()
    for name in DOWNLOADED:
        shutil.copy(shapes / name, folder)
    torch.save(pickles.original(pickles.full_state(load_file(shapes / SAFETENSORS))), folder / ORIGINAL.name)
    return folder / ORIGINAL.name
