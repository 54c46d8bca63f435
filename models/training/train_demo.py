"""Trains the small BLIP that blip-serve embeds, and writes it to models/demo.

    python models/training/train_demo.py                        # minutes on one GPU
    python models/training/train_demo.py --device cpu --scenes 30000 --batch 96 --max-seconds 2400
    python models/training/train_demo.py --rehearse --out /tmp/demo     # a minute, to see that all of it runs

Two stages. First the vision tower alone learns to name the shape and colour under every patch of
generated scenes; trained end to end from nothing, the network learns colours and never shapes.
Then everything learns to answer, on generated scenes and the train split of easy-vqa together.
"""

import argparse
import os
import time
from pathlib import Path

import PIL
import torch
from PIL import Image

from demo import bank, bundle, easy_vqa_set, evaluation, network, vocabulary
from demo.training import BEGUN, Pace, jitter, optimiser, say, update

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "models/demo")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw scenes")
    parser.add_argument("--max-seconds", type=float, default=1e9, help="end training by then, from the start of the program")
    parser.add_argument("--scenes", type=int, default=160_000)
    parser.add_argument("--questions-per-scene", type=int, default=12)
    parser.add_argument("--held-out", type=int, default=2_000, help="own scenes to measure on")
    parser.add_argument("--vision-steps", type=int, default=1_500)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=512, help="pictures a step, a fifth of them of easy-vqa")
    parser.add_argument("--questions", type=int, default=6, help="questions a picture and step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vision-layers", type=int, default=4)
    parser.add_argument("--text-layers", type=int, default=3)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--rehearse", action="store_true", help="a few steps of everything")
    parser.add_argument("--card", action="store_true", help="train nothing; write the model card anew from metrics.json")
    options = parser.parse_args()
    if options.rehearse:
        options.scenes, options.held_out, options.vision_steps, options.steps, options.batch = 600, 40, 15, 15, 40
    return options


def pick(source, amount, per_picture=None):
    """Random pictures and, for each, some of its questions."""
    rows = torch.randint(len(source), (amount,), device=source.pixels.device)
    images = jitter(network.normalise(source.pixels[rows]))
    if per_picture is None:
        return images, source.labels[rows], None, None
    columns = torch.rand(amount, source.questions.shape[1], device=rows.device).topk(per_picture, 1).indices
    labels = None if source.labels is None else source.labels[rows]
    return images, labels, source.questions[rows[:, None], columns], source.answers[rows[:, None], columns]


def train_vision(model, reader, own, options, deadline):
    pace = Pace(options.vision_steps, deadline)
    optimizer = optimiser([model.vision_model, reader], options.device)
    while pace.progress() < 1:
        images, labels, _, _ = pick(own, 2 * options.batch)
        embeds = model.vision_model(images).last_hidden_state
        loss = reader.loss(embeds, labels)
        update(optimizer, loss, pace.learning_rate(options.learning_rate))
        if pace.step % 100 == 0:
            say(f"vision {pace.step:5}  loss {loss.item():.4f}  patches right {reader.accuracy(embeds, labels):.1%}")
        pace.step += 1
    return pace.step


def train_everything(model, reader, own, easy, options, deadline, keep):
    pace = Pace(options.steps, deadline)
    optimizer = optimiser([model, reader], options.device)
    saved = time.monotonic()
    share = options.batch // 5
    while pace.progress() < 1:
        parts = [pick(own, options.batch - share, options.questions), pick(easy, share, options.questions)]
        images, questions, answers = (torch.cat([part[i] for part in parts]) for i in (0, 2, 3))
        embeds = model.vision_model(images).last_hidden_state
        answering = network.answer_loss(model, embeds, questions, answers)
        reading = reader.loss(embeds[: options.batch - share], parts[0][1])
        update(optimizer, answering + 0.3 * reading, pace.learning_rate(options.learning_rate))
        if pace.step % 200 == 0:
            say(f"answers {pace.step:5}  loss {answering.item():.4f}  reading {reading.item():.4f}")
        if time.monotonic() - saved > 60:
            keep()
            saved = time.monotonic()
        pace.step += 1
    return pace.step


def main():
    options = arguments()
    if options.card:
        bundle.rewrite_card(options.out)
        return
    torch.manual_seed(options.seed)
    say(f"torch {torch.__version__}, Pillow {PIL.__version__}, {options.workers} processes, {options.device}")
    entries = vocabulary.entries()
    encoder = bank.Encoder(tuple(entries))
    scenes = (options.side, options.side // options.patch, options.workers)
    # Drawn before CUDA is touched: a forked worker must not inherit a CUDA context.
    own = bank.own_scenes(encoder, options.seed, options.scenes, options.questions_per_scene, *scenes)
    held_out = bank.own_scenes(encoder, "held out", options.held_out, 6, *scenes)
    easy = bank.easy_vqa_train(encoder, options.side)
    say(f"{len(own)} scenes, {len(easy)} pictures of easy-vqa, {len(entries)} tokens")

    model = network.build(len(entries), encoder.stop, options.width, options.heads, options.vision_layers,
                          options.text_layers, options.side, options.patch).to(options.device)  # fmt: skip
    reader = network.PatchReader(options.width).to(options.device)
    own, easy = own.to(options.device), easy.to(options.device)
    padding = network.batched_equals_alone(model, own)
    if padding > 1e-4:
        raise SystemExit(f"padding changes logits by {padding}: the question mask is not honoured")
    torch.set_float32_matmul_precision("high")

    deadline = BEGUN + options.max_seconds
    vision_deadline = time.monotonic() + 0.25 * (deadline - time.monotonic())
    vision_steps = train_vision(model, reader, own, options, vision_deadline)

    def keep():
        bundle.save(model, entries, options.out)

    steps = train_everything(model, reader, own, easy, options, deadline, keep)
    seconds = time.monotonic() - BEGUN
    keep()
    say("trained and saved; measuring")

    torch.set_float32_matmul_precision("highest")
    finished = bundle.load(options.out, options.device)
    metrics = {
        "easy_vqa_test": easy_vqa_exam(encoder, options.side, 200 if options.rehearse else None).take(finished),
        "own_scenes": evaluation.Exam.of_bank(held_out).take(finished),
        "training": {
            "seed": options.seed,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
            "seconds": round(seconds, 1),
            "vision_steps": vision_steps,
            "steps": steps,
            "pictures_a_step": options.batch,
            "questions_a_picture": options.questions,
            "own_scenes": len(own),
            "questions_per_scene": options.questions_per_scene,
            "easy_vqa_pictures": len(easy),
            "torch": torch.__version__,
            "pillow": PIL.__version__,
        },
    }
    bundle.write(finished.cpu(), encoder, entries, options.out, metrics)
    for name in ("easy_vqa_test", "own_scenes"):
        say(f"{name}: {metrics[name]['right']} of {metrics[name]['questions']}, {metrics[name]['accuracy']:.2%}")
    say(f"by kind: {metrics['own_scenes']['by_kind']}")


def easy_vqa_exam(encoder, side, limit=None):
    """The test split of easy-vqa, of which training sees nothing; all of it, or the first `limit`."""
    paths, questions = easy_vqa_set.load()
    questions = questions[:limit]
    pixels = torch.stack([torch.tensor(bank.shrink(Image.open(path), side)) for path in paths])
    return evaluation.Exam(
        lambda indices: network.normalise(pixels[indices]),
        [(q.picture, [t for t in encoder.question(q.text) if t]) for q in questions],
        [tuple(t for t in encoder.answer(q.answer)[1:] if t) for q in questions],
    )


if __name__ == "__main__":
    main()
