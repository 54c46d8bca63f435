"""Trains the answering model `models/demo`, which blip-serve embeds.

In the first stage, the vision encoder learns the shape and colour of every patch of generated
scenes. Without this stage, the network learns colours but not shapes. In the second stage,
everything is trained to answer questions about generated scenes and the train split of easy-vqa.
"""

import os
import time
from pathlib import Path

import PIL
import torch

from ..data import preprocess, question_bank, vocabulary
from ..data.text_tokenizer import TextTokenizer
from ..evaluation.question_exam import QuestionExam
from ..networks import question_answering
from ..networks.optimization import START, Schedule, jitter, log, optimizer_of, update
from ..output import answer_card, checkpoint, report

MODELS = Path(__file__).resolve().parents[3]


def add_options(parser):
    """Adds the options of this task."""
    parser.add_argument("--out", type=Path, default=MODELS / "demo", help="model folder to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw scenes")
    parser.add_argument("--max-seconds", type=float, default=1e9, help="time limit of the training")
    parser.add_argument("--scenes", type=int, default=160_000, help="training scenes")
    parser.add_argument("--questions-per-scene", type=int, default=12)
    parser.add_argument("--held-out", type=int, default=2_000, help="generated scenes to measure on")
    parser.add_argument("--vision-steps", type=int, default=1_500, help="steps of the first stage")
    parser.add_argument("--steps", type=int, default=5_000, help="steps of the second stage")
    parser.add_argument("--batch", type=int, default=512, help="images per step, a fifth from easy-vqa")
    parser.add_argument("--questions", type=int, default=6, help="questions per image and step")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vision-layers", type=int, default=4)
    parser.add_argument("--text-layers", type=int, default=3)
    parser.add_argument("--side", type=int, default=64, help="image size in pixels")
    parser.add_argument("--patch", type=int, default=8, help="patch size in pixels")
    parser.add_argument("--smoke-test", action="store_true", help="run a few steps of every part")
    parser.add_argument("--card-only", action="store_true", help="write the model card from metrics.json")


def apply_smoke_test(options):
    """Reduces all sizes."""
    options.scenes, options.held_out, options.vision_steps, options.steps, options.batch = 600, 40, 15, 15, 40


def random_rows(bank, amount, questions_per_image=None):
    """Returns random images with labels and, for each, some of its questions with answers."""
    rows = torch.randint(len(bank), (amount,), device=bank.pixels.device)
    images = jitter(preprocess.normalize(bank.pixels[rows]))
    if questions_per_image is None:
        return images, bank.labels[rows], None, None
    order = torch.rand(amount, bank.questions.shape[1], device=rows.device)
    columns = order.topk(questions_per_image, 1).indices
    labels = None if bank.labels is None else bank.labels[rows]
    return images, labels, bank.questions[rows[:, None], columns], bank.answers[rows[:, None], columns]


def train_vision(model, classifier, generated, options, deadline):
    """Trains the vision encoder on patch labels. Returns the number of steps."""
    schedule = Schedule(options.vision_steps, deadline)
    optimizer = optimizer_of([model.vision_model, classifier], options.device)
    while schedule.progress() < 1:
        images, labels, _, _ = random_rows(generated, 2 * options.batch)
        embeds = model.vision_model(images).last_hidden_state
        loss = classifier.loss(embeds, labels)
        update(optimizer, loss, schedule.learning_rate(options.learning_rate))
        if schedule.step % 100 == 0:
            accuracy = classifier.accuracy(embeds, labels)
            log(f"vision {schedule.step:5}  loss {loss.item():.4f}  correct patches {accuracy:.1%}")
        schedule.step += 1
    return schedule.step


def train_answers(model, classifier, generated, easy, options, deadline, save):
    """Trains all parts to answer questions. Returns the number of steps."""
    schedule = Schedule(options.steps, deadline)
    optimizer = optimizer_of([model, classifier], options.device)
    saved = time.monotonic()
    easy_images = options.batch // 5
    while schedule.progress() < 1:
        parts = [
            random_rows(generated, options.batch - easy_images, options.questions),
            random_rows(easy, easy_images, options.questions),
        ]
        images, questions, answers = (torch.cat([part[i] for part in parts]) for i in (0, 2, 3))
        embeds = model.vision_model(images).last_hidden_state
        answer_loss = question_answering.answer_loss(model, embeds, questions, answers)
        patch_loss = classifier.loss(embeds[: options.batch - easy_images], parts[0][1])
        update(optimizer, answer_loss + 0.3 * patch_loss, schedule.learning_rate(options.learning_rate))
        if schedule.step % 200 == 0:
            log(f"answers {schedule.step:5}  loss {answer_loss.item():.4f}  patches {patch_loss.item():.4f}")
        if time.monotonic() - saved > 60:
            save()
            saved = time.monotonic()
        schedule.step += 1
    return schedule.step


def run(options):
    """Trains, measures and writes the model."""
    if options.card_only:
        report.write_card(answer_card, options.out)
        return
    torch.manual_seed(options.seed)
    log(f"torch {torch.__version__}, Pillow {PIL.__version__}, {options.workers} processes, {options.device}")
    entries = vocabulary.entries()
    tokenizer = TextTokenizer(tuple(entries))
    drawing = (options.side, options.side // options.patch, options.workers)
    # The scenes are drawn before CUDA is used, because a forked worker must not inherit its
    # context.
    generated = question_bank.generated_scenes(
        tokenizer, options.seed, options.scenes, options.questions_per_scene, *drawing
    )
    held_out = question_bank.generated_scenes(tokenizer, "held out", options.held_out, 6, *drawing)
    easy = question_bank.easy_vqa_train(tokenizer, options.side)
    log(f"{len(generated)} scenes, {len(easy)} images of easy-vqa, {len(entries)} tokens")

    model = question_answering.build(
        len(entries),
        tokenizer.stop,
        options.width,
        options.heads,
        options.vision_layers,
        options.text_layers,
        options.side,
        options.patch,
    ).to(options.device)
    classifier = question_answering.PatchClassifier(options.width).to(options.device)
    generated, easy = generated.to(options.device), easy.to(options.device)
    difference = question_answering.max_padding_difference(model, generated)
    if difference > 1e-4:
        raise SystemExit(f"padding changes logits: by {difference}, at most 1e-4 allowed")
    torch.set_float32_matmul_precision("high")

    deadline = START + options.max_seconds
    vision_deadline = time.monotonic() + 0.25 * (deadline - time.monotonic())
    vision_steps = train_vision(model, classifier, generated, options, vision_deadline)

    def save():
        checkpoint.save(model, entries, options.out)

    steps = train_answers(model, classifier, generated, easy, options, deadline, save)
    seconds = time.monotonic() - START
    save()
    log("trained and saved; measuring")

    torch.set_float32_matmul_precision("highest")
    finished = checkpoint.load(options.out, options.device)
    limit = 200 if options.smoke_test else None
    metrics = {
        "easy_vqa_test": QuestionExam.of_easy_vqa_test(tokenizer, options.side, limit).take(finished),
        "generated_scenes": QuestionExam.of_bank(held_out).take(finished),
        "training": {
            "seed": options.seed,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
            "seconds": round(seconds, 1),
            "vision_steps": vision_steps,
            "steps": steps,
            "images_per_step": options.batch,
            "questions_per_image": options.questions,
            "generated_scenes": len(generated),
            "questions_per_scene": options.questions_per_scene,
            "easy_vqa_images": len(easy),
            "torch": torch.__version__,
            "pillow": PIL.__version__,
        },
    }
    report.write(answer_card, finished.cpu(), tokenizer, entries, options.out, metrics)
    for name in ("easy_vqa_test", "generated_scenes"):
        log(
            f"{name}: {metrics[name]['right']} of {metrics[name]['questions']}, {metrics[name]['accuracy']:.2%}"
        )
    log(f"by kind: {metrics['generated_scenes']['by_kind']}")
