"""The training flow of the tasks that start from the trained answering model.

The lower vision layers stay frozen and run once over a fixed set of scenes. The upper layers and
the text network are trained.
"""

import json
import typing
from dataclasses import dataclass
from pathlib import Path

import PIL
import torch

from ..data import captions, scene_set, vocabulary
from ..data.text_tokenizer import TextTokenizer
from ..networks import split_vision
from ..networks.optimization import log
from ..output import checkpoint, report, training_runs

MODELS = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Task:
    """The parts of the flow that differ between tasks.

    `seed_name` is part of the seeds that scenes are drawn with. `build` returns the initial model.
    `train` runs the steps and returns their number. `measure` returns the metrics. `card` is a card
    module.
    """

    seed_name: str
    model_class: type
    build: typing.Callable
    train: typing.Callable
    measure: typing.Callable
    card: typing.Any
    validation_scenes: int


def add_options(parser, *, out, scenes, frozen_layers, steps, batch, learning_rate):
    """Adds the options of all fine-tuned tasks, with the defaults of one."""
    parser.add_argument("--demo", type=Path, default=MODELS / "demo", help="trained answering model")
    parser.add_argument("--resume", action="store_true", help="continue training the model in --out")
    parser.add_argument("--out", type=Path, default=MODELS / out, help="model folder to write")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--max-seconds", type=float, default=1e9, help="time limit of the training")
    parser.add_argument("--scenes", type=int, default=scenes, help="training scenes")
    parser.add_argument("--held-out", type=int, default=1_000, help="scenes to measure on")
    parser.add_argument("--frozen-layers", type=int, default=frozen_layers, help="frozen vision layers")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch, help="images per step")
    parser.add_argument("--learning-rate", type=float, default=learning_rate, help="peak learning rate")
    parser.add_argument("--smoke-test", action="store_true", help="run a few steps of every part")
    parser.add_argument("--measure-only", action="store_true", help="measure the model in --out")
    parser.add_argument("--card-only", action="store_true", help="write the model card from metrics.json")


def measure(task, tokenizer, entries, options):
    """Measures the saved model on scenes of a separate seed and writes metrics and model card."""
    log("measuring")
    metrics = {"training": training_runs.earlier_runs(options.out)}
    model = checkpoint.load(options.out, model_class=task.model_class)
    side = model.config.vision_config.image_size
    held_out = scene_set.draw(f"measured {task.seed_name}", options.held_out, side, options.workers)
    results = task.measure(model, tokenizer, held_out)
    report.write(task.card, model, tokenizer, entries, options.out, metrics | results)
    for name, result in results.items():
        log(f"{name}: {json.dumps(result)}")


def run(task, options):
    """Trains, measures and writes the model of a task."""
    if options.card_only:
        report.write_card(task.card, options.out)
        return
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    log(f"torch {torch.__version__}, Pillow {PIL.__version__}, {options.threads} threads")
    source_entries, entries = vocabulary.entries(), vocabulary.entries(captions.WORDS)
    tokenizer = TextTokenizer(tuple(entries))
    if options.measure_only:
        measure(task, tokenizer, entries, options)
        return
    source = checkpoint.load(options.demo)
    side = source.config.vision_config.image_size
    earlier = training_runs.earlier_runs(options.out) if options.resume else []
    seed = f"{task.seed_name} {options.seed} {len(earlier)}"
    training_set = scene_set.draw(seed, options.scenes, side, options.workers)
    validation_set = scene_set.draw(
        f"watched {task.seed_name}", task.validation_scenes, side, options.workers
    )
    if options.resume:
        model = checkpoint.load(options.out, model_class=task.model_class).train()
    else:
        model = task.build(source, source_entries, entries, tokenizer.stop)
    difference = split_vision.max_difference(model.vision_model, training_set, options.frozen_layers)
    if difference > 1e-5:
        raise SystemExit(
            f"split vision encoder differs from the whole one: {difference}, at most 1e-5 allowed"
        )
    log(f"{len(training_set)} scenes drawn, {len(entries)} tokens")
    states = split_vision.run_lower(model.vision_model, training_set, options.frozen_layers)
    log(f"encoded: {states.nbytes / 1e6:.0f} MB")

    def save():
        checkpoint.save(model, entries, options.out)

    steps = task.train(model, states, training_set, validation_set, tokenizer, options, save)
    save()
    facts = training_runs.run_facts(options, steps)
    if "texts" in options:
        facts["texts_per_image"] = options.texts
    checkpoint.write_json(options.out / "metrics.json", {"training": [*earlier, facts]})
    log("trained and saved")
    measure(task, tokenizer, entries, options)
