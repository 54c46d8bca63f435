"""The public BLIP checkpoints, and folders with exactly their files, names and shapes. The weights are random."""

import os
import shutil
from dataclasses import dataclass

import pickles
import random_checkpoint
import torch
from released_files import PICKLE, SAFETENSORS, TAKEN, write_vocabulary, write_what_is_left_alone
from safetensors.torch import load_file, save_file

SEED = 11
# Added to the stop token's logit, so that answers and captions end as real ones do.
STOP_BIAS = 6.0


@dataclass(frozen=True)
class Released:
    """A checkpoint: which shapes it has (those of `random_checkpoint.PRESETS`), and which weights its folder has here."""

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
    def taken(self):
        return TAKEN | {self.weights[0]}


QUESTIONS, CAPTIONS, MATCHING = "TASK_QUESTION_ANSWERING", "TASK_CAPTIONING", "TASK_MATCHING"
RELEASED = (
    Released("blip-vqa-base", "vqa", QUESTIONS, 361_230_140),
    Released("blip-vqa-capfilt-large", "vqa", QUESTIONS, 361_230_140, (PICKLE,)),
    Released("blip-image-captioning-base", "caption-base", CAPTIONS, 223_971_644),
    Released("blip-image-captioning-large", "caption-large", CAPTIONS, 446_290_492),
    Released("blip-itm-base-coco", "itm-base", MATCHING, 223_744_258, embedding_size=256),
    Released("blip-itm-base-flickr", "itm-base", MATCHING, 223_744_258, (PICKLE,), embedding_size=256),
    Released("blip-itm-large-coco", "itm-large", MATCHING, 446_128_642, embedding_size=256),
    Released("blip-itm-large-flickr", "itm-large", MATCHING, 446_128_642, (PICKLE,), embedding_size=256),
)
# The original repository's file: trained at 480 x 480, so it has more positions and parameters than its twin on the hub.
ORIGINAL = Released("model_base_vqa_capfilt_large.pth", "vqa", QUESTIONS, 361_230_140 + (30**2 - 24**2) * 768)
ORIGINAL_IMAGE_SIZE = 480


def write_shapes(folder, preset, image_size=384):
    """The files that all checkpoints of these shapes have in common, with the weights in both formats."""
    folder.mkdir()
    model_class, vision, text = random_checkpoint.PRESETS[preset]
    vision = vision | {"image_size": image_size}
    config, tensors = random_checkpoint.weights(model_class, vision, text, SEED, torch.float32, STOP_BIAS)
    state = pickles.whole(tensors)
    torch.save(state, folder / PICKLE)
    # A file of safetensors may share no memory between its tensors.
    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / SAFETENSORS, metadata={"format": "pt"})
    random_checkpoint.write_beside(folder, config, model_class.__name__)
    write_vocabulary(folder)


def write_released(folder, released, shapes):
    """The folder of one checkpoint, its weights hard links to those of its shapes, with what the hub has beside them."""
    folder.mkdir(parents=True)
    for path in shapes.iterdir():
        if path.name in TAKEN | set(released.weights):
            os.link(path, folder / path.name)
    write_what_is_left_alone(folder)


def write_original(folder, shapes):
    """The original's file, with its names and what its trainer keeps, beside the files that it needs; returns its path."""
    folder.mkdir()
    for name in TAKEN:
        shutil.copy(shapes / name, folder)
    torch.save(pickles.original(pickles.whole(load_file(shapes / SAFETENSORS))), folder / ORIGINAL.name)
    return folder / ORIGINAL.name
