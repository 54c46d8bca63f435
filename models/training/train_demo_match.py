"""Trains the small matcher from the demo model and writes it to models/demo-match.

    python models/training/train_demo_match.py              # half an hour of a processor to itself
    python models/training/train_demo_match.py --rehearse --out /tmp/demo-match

The demo's vision tower already tells shapes, colours and numbers. Its first `--frozen-layers` layers
stay as they are and run once over a fixed set of scenes; the rest, the text encoder, the matching head
and the projections learn together: to match, to embed, and to count every kind in one token.
"""

import argparse
import json
import math
import random
from pathlib import Path

import PIL
import torch
from torch import nn
from transformers import BlipForImageTextRetrieval

from demo import bank, bundle, captions, gallery, match_bundle, match_exam, match_texts, matcher, tower, vocabulary
from demo.training import BEGUN, Pace, optimiser, say, update

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=ROOT / "models/demo", help="the trained model to begin from")
    parser.add_argument("--go-on", action="store_true", help="go on from what is in --out, with scenes of its own")
    parser.add_argument("--out", type=Path, default=ROOT / "models/demo-match")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-seconds", type=float, default=1e9, help="end training by then, from the start of the program")
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--held-out", type=int, default=1_000, help="scenes to measure on")
    parser.add_argument("--frozen-layers", type=int, default=2, help="vision layers that stay as they are")
    parser.add_argument("--steps", type=int, default=1_500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--texts", type=int, default=4, help="texts a picture and step to match, half of them false")
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--rehearse", action="store_true", help="a few steps of everything")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure what is in --out")
    parser.add_argument("--card", action="store_true", help="train nothing; write the model card anew from metrics.json")
    options = parser.parse_args()
    if options.rehearse:
        options.scenes, options.held_out, options.steps, options.batch = 500, 300, 10, 32
    return options


class Scale(nn.Module):
    """What cosines are multiplied by in training; no part of the model."""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self):
        return self.log.exp().clamp(max=100)


def step_losses(model, counter, scale, encoder, embeds, found, options, rng):
    """The losses of matching, embedding and counting for pictures of known `captions.kinds`."""
    asked = [(owner, *pair) for owner, kinds in enumerate(found)
             for pair in match_texts.pairs(kinds, options.texts, rng)]  # fmt: skip
    owners, texts, truth = zip(*asked, strict=True)
    matching = matcher.matching_loss(model, embeds, match_texts.rows(encoder, texts), owners, torch.tensor(truth))
    right, wrong = zip(*(match_texts.whole(kinds, rng) for kinds in found), strict=True)
    same = torch.tensor([[one == other for other in found] for one in found])
    rows = match_texts.rows(encoder, [*right, *filter(None, wrong)])
    embedding = matcher.contrastive_loss(model, embeds, rows, same, scale())
    counting = counter.loss(embeds[:, 0], counter.targets(found))
    return matching, embedding, counting


def train(model, states, scenes, watched, encoder, options, keep):
    """Until steps or time are used up; looks at `watched`, a few scenes of their own, on the way."""
    rest = tower.freeze(model.vision_model, options.frozen_layers)
    counter, scale = matcher.KindCounter(model.config.vision_config.hidden_size), Scale()
    learners = [*rest, model.text_encoder, model.vision_proj, model.text_proj, model.itm_head, counter, scale]
    optimizer = optimiser(learners, "cpu")
    pace = Pace(options.steps, BEGUN + options.max_seconds)
    rng = random.Random(options.seed)
    while pace.progress() < 1:
        indices = torch.randint(len(states), (options.batch,))
        found = [scenes.kinds[index] for index in indices.tolist()]
        with torch.autocast("cpu", torch.bfloat16):
            embeds = tower.upper(model.vision_model, states[indices].float(), options.frozen_layers)
            matching, embedding, counting = step_losses(model, counter, scale, encoder, embeds, found, options, rng)
        update(optimizer, matching + 0.2 * embedding + 0.03 * counting, pace.learning_rate(options.learning_rate))
        if pace.step % 50 == 0:
            say(f"{pace.step:5}  matching {matching.item():.4f}  embedding {embedding.item():.4f}"
                f"  counting {counting.item():.4f}  scale {scale().item():.1f}")
        if pace.step % 250 == 249:
            model.eval()
            judged, searched = match_exam.matching(model, encoder, watched), match_exam.search(model, encoder, watched)
            say(f"{pace.step:5}  captions accepted {judged['captions_accepted']:.1%}"
                f"  one word wrong rejected {judged['one_word_wrong_rejected']:.1%}"
                f"  recall at 1 {searched['picture_for_text_recall_at_1']:.1%}")
            model.train()
            keep()
        pace.step += 1
    return pace.step


def measure(encoder, entries, options):
    """Measures the saved model on scenes of a seed of their own, and writes metrics and card."""
    say("measuring")
    metrics = {"training": bundle.earlier_runs(options.out)}
    model = bundle.load(options.out, kind=BlipForImageTextRetrieval)
    held_out = gallery.draw("measured matching", options.held_out, model.config.vision_config.image_size, options.workers)
    metrics |= match_exam.take(model, encoder, held_out)
    match_bundle.write(model, encoder, entries, options.out, metrics)
    say(json.dumps({name: metrics[name] for name in ("matching", "search")}))


def main():
    options = arguments()
    if options.card:
        match_bundle.rewrite_card(options.out)
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
    scenes = gallery.draw(f"matching {options.seed} {len(before)}", options.scenes, side, options.workers)
    watched = gallery.draw("watched matching", 150, side, options.workers)
    if options.go_on:
        model = bundle.load(options.out, kind=BlipForImageTextRetrieval).train()
    else:
        model = matcher.build(demo, old_entries, entries, encoder.stop)
    difference = tower.halves_agree(model.vision_model, scenes, options.frozen_layers)
    if difference > 1e-5:
        raise SystemExit(f"the tower in two halves differs by {difference} from the tower in one")
    say(f"{len(scenes)} scenes drawn, {len(entries)} tokens")
    states = tower.run_lower(model.vision_model, scenes, options.frozen_layers)
    say(f"encoded: {states.nbytes / 1e6:.0f} MB")
    steps = train(model, states, scenes, watched, encoder, options, lambda: bundle.save(model, entries, options.out))
    bundle.save(model, entries, options.out)
    facts = bundle.training_facts(options, steps) | {"texts_a_picture": options.texts}
    bundle.write_json(options.out / "metrics.json", {"training": [*before, facts]})
    say("trained and saved")
    measure(encoder, entries, options)


if __name__ == "__main__":
    main()
