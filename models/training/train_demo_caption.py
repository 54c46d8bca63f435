"""Trains the small captioner from the demo model and writes it to models/demo-caption.

    python models/training/train_demo_caption.py            # half an hour of a processor to itself
    python models/training/train_demo_caption.py --rehearse --out /tmp/demo-caption

The demo's vision tower already tells shapes, colours and numbers. Its first `--frozen-layers` layers
stay as they are and run once over a fixed set of scenes; the rest and the decoder learn to caption.
"""

import argparse
import json
import random
from pathlib import Path

import PIL
import torch
from transformers import BlipForConditionalGeneration

from demo import bank, bundle, caption_bundle, caption_exam, captioner, captions, gallery, tower, vocabulary
from demo.training import BEGUN, Pace, optimiser, say, update

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=ROOT / "models/demo", help="the trained model to begin from")
    parser.add_argument("--go-on", action="store_true", help="go on from what is in --out, with scenes of its own")
    parser.add_argument("--out", type=Path, default=ROOT / "models/demo-caption")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-seconds", type=float, default=1e9, help="end training by then, from the start of the program")
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--held-out", type=int, default=1_000, help="scenes to measure on")
    parser.add_argument("--frozen-layers", type=int, default=4, help="vision layers that stay as they are")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--rehearse", action="store_true", help="a few steps of everything")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure what is in --out")
    parser.add_argument("--card", action="store_true", help="train nothing; write the model card anew from metrics.json")
    options = parser.parse_args()
    if options.rehearse:
        options.scenes, options.held_out, options.steps, options.batch = 500, 40, 10, 32
    return options


def train(model, states, rows, watched, encoder, options, keep):
    """Until steps or time are used up; looks at `watched`, a few scenes of their own, on the way."""
    rest = tower.freeze(model.vision_model, options.frozen_layers)
    optimizer = optimiser([*rest, model.text_decoder], "cpu")
    pace = Pace(options.steps, BEGUN + options.max_seconds)
    rng = random.Random(options.seed)
    while pace.progress() < 1:
        indices = torch.randint(len(states), (options.batch,))
        sampled = rows.sample(indices.tolist(), rng)
        with torch.autocast("cpu", torch.bfloat16):
            embeds = tower.upper(model.vision_model, states[indices].float(), options.frozen_layers)
            loss = captioner.loss(model, embeds, sampled)
        update(optimizer, loss, pace.learning_rate(options.learning_rate))
        if pace.step % 100 == 0:
            say(f"{pace.step:5}  loss {loss.item():.4f}")
        if pace.step % 1000 == 999:
            model.eval()
            found = caption_exam.take(model, watched, encoder)
            say(f"{pace.step:5}  exact {found['exact_rate']:.1%}  true {found['true_rate']:.1%}")
            model.train()
            keep()
        pace.step += 1
    return pace.step


def measure(encoder, entries, options):
    """Measures the saved model on scenes of a seed of their own, and writes metrics and card."""
    say("measuring")
    metrics = {"training": bundle.earlier_runs(options.out)}
    model = bundle.load(options.out, kind=BlipForConditionalGeneration)
    held_out = gallery.draw("measured captions", options.held_out, model.config.vision_config.image_size, options.workers)
    metrics["captions"] = caption_exam.take(model, held_out, encoder)
    metrics["prompted"] = caption_exam.take(model, held_out, encoder, captions.PROMPTS)
    caption_bundle.write(model, encoder, entries, options.out, metrics)
    for name in ("captions", "prompted"):
        say(f"{name}: {json.dumps(metrics[name])}")


def main():
    options = arguments()
    if options.card:
        caption_bundle.rewrite_card(options.out)
        return
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    say(f"torch {torch.__version__}, Pillow {PIL.__version__}, {options.threads} threads")
    old_entries, entries = vocabulary.entries(), vocabulary.entries(captions.WORDS)
    encoder = bank.Encoder(tuple(entries))
    if options.measure:
        measure(encoder, entries, options)
        return
    demo = bundle.load(options.demo)
    side = demo.config.vision_config.image_size
    before = bundle.earlier_runs(options.out) if options.go_on else []
    scenes = gallery.draw(f"captions {options.seed} {len(before)}", options.scenes, side, options.workers)
    watched = gallery.draw("watched captions", 250, side, options.workers)
    if options.go_on:
        model = bundle.load(options.out, kind=BlipForConditionalGeneration).train()
    else:
        model = captioner.build(demo, old_entries, entries, encoder.stop)
    difference = tower.halves_agree(model.vision_model, scenes, options.frozen_layers)
    if difference > 1e-5:
        raise SystemExit(f"the tower in two halves differs by {difference} from the tower in one")
    rows = captioner.CaptionRows(encoder, scenes.kinds)
    say(f"{len(scenes)} scenes drawn, {len(entries)} tokens")
    states = tower.run_lower(model.vision_model, scenes, options.frozen_layers)
    say(f"encoded: {states.nbytes / 1e6:.0f} MB")
    steps = train(model, states, rows, watched, encoder, options, lambda: bundle.save(model, entries, options.out))
    bundle.save(model, entries, options.out)
    bundle.write_json(options.out / "metrics.json", {"training": [*before, bundle.training_facts(options, steps)]})
    say("trained and saved")
    measure(encoder, entries, options)


if __name__ == "__main__":
    main()
