"""Lets the reference judge texts about pictures of held-out scenes and keeps pictures, texts and judgements.

The reference is `transformers`' BlipForImageTextRetrieval, in f32 on a CPU, one pair at a time and so unpadded.

    python tests/reference/reference_matches.py      # models/demo-match -> tests/reference/data/demo_match_reference.json.gz

The file: `scenes`, each a `png` in base64 and `texts`, of which the first matches and the second is false by a
word: `text`, `matches` (the truth), `probability` (of the matching head), `logits` (no, yes) and `cosine`.
"""

import argparse
import random
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BlipForImageTextRetrieval, BlipImageProcessorPil

import reference_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo import captions, match_texts  # noqa: E402



@torch.no_grad()
def judge(model, tokenizer, pixels, some, matches):
    """What `forward` makes of a text, as the file has it."""
    text = captions.write(some)
    ids = tokenizer(text, return_tensors="pt").input_ids
    logits = model(input_ids=ids, pixel_values=pixels).itm_score[0]
    cosine = model(input_ids=ids, pixel_values=pixels, use_itm_head=False).itm_score[0, 0]
    return {
        "text": text,
        "matches": matches,
        "probability": round(logits.softmax(-1)[1].item(), 6),
        "logits": [round(value, 4) for value in logits.tolist()],
        "cosine": round(cosine.item(), 6),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo-match")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/reference/data/demo_match_reference.json.gz")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = BlipForImageTextRetrieval.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(options.model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)

    rng = random.Random("match reference")
    made = []
    for picture, found in reference_file.pictures("match reference", options.scenes):
        pixels = processor(picture, return_tensors="pt").pixel_values
        right = captions.phrases(found)
        wrong = match_texts.falsified(right, found, rng)
        texts = [judge(model, tokenizer, pixels, some, some is right) for some in (right, wrong)]
        made.append({"png": reference_file.png(picture), "texts": texts})
    size = reference_file.write(options.out, options.model, {"scenes": made})
    judged = [text for one in made for text in one["texts"]]
    right = sum((text["probability"] > 0.5) == text["matches"] for text in judged)
    closer = sum(one["texts"][0]["cosine"] > one["texts"][1]["cosine"] for one in made)
    print(f"{right} of {len(judged)} texts judged rightly; cosine of the matching text higher in {closer} of "
          f"{len(made)} scenes; {size / 1e3:.0f} kB to {options.out}")  # fmt: skip


if __name__ == "__main__":
    main()
