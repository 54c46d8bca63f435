"""Trains the matching model `models/demo-match`: matching head, projections and text encoder."""

import random

import torch
from transformers import BlipForImageTextRetrieval

from ..data import match_texts
from ..evaluation import match_exam
from ..networks import matching, split_vision
from ..networks.optimization import START, Schedule, log, optimizer_of, update
from ..output import match_card
from . import fine_tuning


def add_options(parser):
    """Adds the options of this task."""
    fine_tuning.add_options(
        parser, out="demo-match", scenes=20_000, frozen_layers=2, steps=1_500, batch=32, learning_rate=6e-4
    )
    parser.add_argument("--texts", type=int, default=4, help="texts per image and step, half of them false")


def apply_smoke_test(options):
    """Reduces all sizes."""
    options.scenes, options.held_out, options.steps, options.batch = 500, 300, 10, 32


def step_losses(model, counter, scale, tokenizer, embeds, batch_kinds, options, rng):
    """Returns the matching, contrastive and counting losses of a batch."""
    pairs = [
        (owner, *pair)
        for owner, kinds in enumerate(batch_kinds)
        for pair in match_texts.pairs(kinds, options.texts, rng)
    ]
    owners, texts, truth = zip(*pairs, strict=True)
    matching_loss = matching.matching_loss(
        model, embeds, match_texts.rows(tokenizer, texts), owners, torch.tensor(truth)
    )
    right, wrong = zip(*(match_texts.caption_pair(kinds, rng) for kinds in batch_kinds), strict=True)
    same = torch.tensor([[one == other for other in batch_kinds] for one in batch_kinds])
    rows = match_texts.rows(tokenizer, [*right, *filter(None, wrong)])
    contrastive_loss = matching.contrastive_loss(model, embeds, rows, same, scale())
    counting_loss = counter.loss(embeds[:, 0], counter.targets(batch_kinds))
    return matching_loss, contrastive_loss, counting_loss


def train(model, states, training_set, validation_set, tokenizer, options, save):
    """Trains until the steps or the time are used up. Returns the number of steps."""
    trainable = split_vision.freeze(model.vision_model, options.frozen_layers)
    counter, scale = matching.KindCounter(model.config.vision_config.hidden_size), matching.LogitScale()
    modules = [
        *trainable,
        model.text_encoder,
        model.vision_proj,
        model.text_proj,
        model.itm_head,
        counter,
        scale,
    ]
    optimizer = optimizer_of(modules, "cpu")
    schedule = Schedule(options.steps, START + options.max_seconds)
    rng = random.Random(options.seed)
    while schedule.progress() < 1:
        indices = torch.randint(len(states), (options.batch,))
        batch_kinds = [training_set.kinds[index] for index in indices.tolist()]
        with torch.autocast("cpu", torch.bfloat16):
            embeds = split_vision.upper(model.vision_model, states[indices].float(), options.frozen_layers)
            losses = step_losses(model, counter, scale, tokenizer, embeds, batch_kinds, options, rng)
        matched, contrasted, counted = losses
        loss = matched + 0.2 * contrasted + 0.03 * counted
        update(optimizer, loss, schedule.learning_rate(options.learning_rate))
        if schedule.step % 50 == 0:
            log(
                f"{schedule.step:5}  matching {matched.item():.4f}  contrastive {contrasted.item():.4f}"
                f"  counting {counted.item():.4f}  scale {scale().item():.1f}"
            )
        if schedule.step % 250 == 249:
            model.eval()
            judged = match_exam.matching(model, tokenizer, validation_set)
            searched = match_exam.search(model, tokenizer, validation_set)
            log(
                f"{schedule.step:5}  captions accepted {judged['captions_accepted']:.1%}"
                f"  one word wrong rejected {judged['one_word_wrong_rejected']:.1%}"
                f"  recall at 1 {searched['image_for_text_recall_at_1']:.1%}"
            )
            model.train()
            save()
        schedule.step += 1
    return schedule.step


TASK = fine_tuning.Task(
    seed_name="matching",
    model_class=BlipForImageTextRetrieval,
    build=matching.build,
    train=train,
    measure=match_exam.take,
    card=match_card,
    validation_scenes=150,
)


def run(options):
    """Trains the model."""
    fine_tuning.run(TASK, options)
