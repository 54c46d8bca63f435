"""Trains the captioning model `models/demo-caption`."""

import random

import torch
from transformers import BlipForConditionalGeneration

from ..data import captions
from ..evaluation import caption_exam
from ..networks import captioning, split_vision
from ..networks.optimization import START, Schedule, log, optimizer_of, update
from ..output import caption_card
from . import fine_tuning


def add_options(parser):
    """Adds the options of this task."""
    fine_tuning.add_options(
        parser, out="demo-caption", scenes=40_000, frozen_layers=4, steps=3_000, batch=64, learning_rate=1e-3
    )


def apply_smoke_test(options):
    """Reduces all sizes."""
    options.scenes, options.held_out, options.steps, options.batch = 500, 40, 10, 32


def train(model, states, training_set, validation_set, tokenizer, options, save):
    """Trains until the steps or the time are used up. Returns the number of steps."""
    rows = captioning.CaptionRows(tokenizer, training_set.kinds)
    trainable = split_vision.freeze(model.vision_model, options.frozen_layers)
    optimizer = optimizer_of([*trainable, model.text_decoder], "cpu")
    schedule = Schedule(options.steps, START + options.max_seconds)
    rng = random.Random(options.seed)
    while schedule.progress() < 1:
        indices = torch.randint(len(states), (options.batch,))
        sampled = rows.sample(indices.tolist(), rng)
        with torch.autocast("cpu", torch.bfloat16):
            embeds = split_vision.upper(model.vision_model, states[indices].float(), options.frozen_layers)
            loss = captioning.loss(model, embeds, sampled)
        update(optimizer, loss, schedule.learning_rate(options.learning_rate))
        if schedule.step % 100 == 0:
            log(f"{schedule.step:5}  loss {loss.item():.4f}")
        if schedule.step % 1000 == 999:
            model.eval()
            result = caption_exam.take(model, validation_set, tokenizer)
            log(f"{schedule.step:5}  exact {result['exact_rate']:.1%}  true {result['true_rate']:.1%}")
            model.train()
            save()
        schedule.step += 1
    return schedule.step


def measure(model, tokenizer, held_out):
    """Returns the metrics without and with prompts."""
    return {
        "captions": caption_exam.take(model, held_out, tokenizer),
        "prompted": caption_exam.take(model, held_out, tokenizer, captions.PROMPTS),
    }


TASK = fine_tuning.Task(
    seed_name="captions",
    model_class=BlipForConditionalGeneration,
    build=captioning.build,
    train=train,
    measure=measure,
    card=caption_card,
    validation_scenes=250,
)


def run(options):
    """Trains the model."""
    fine_tuning.run(TASK, options)
